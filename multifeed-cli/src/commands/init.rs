//! `multifeed init`: a new store.

use multifeed_tokio::Options;
use serde_json::json;

use crate::args::Init;
use crate::context::Context;
use crate::failure::Failure;
use crate::keys::{self, KEY_FILE};
use crate::store;

pub(super) async fn run(context: &Context, args: Init) -> Result<(), Failure> {
    let directory = &args.directory;
    let place = directory.display().to_string();
    if store::exists(directory) {
        let message = format!("there is a store in {place} already");
        return Err(Failure::new("ERR_EXISTS", message)
            .advice(format!(
                "use it as it is (`multifeed feeds {place}`), or choose another folder"
            ))
            .detail("directory", place));
    }
    store::refuse_foreign(directory)?;
    let given = keys::given(context).await?;
    store::warn_of_default(context, given.as_ref());
    let made = given.is_none();
    let key = match given {
        Some(given) => given.key,
        None => keys::random()?,
    };
    let save = !args.saving.no_save_key;
    store::make(directory)?;
    // Before the store: a store whose only key was never seen by anybody would be of no use.
    if save && !keys::save(directory, &key)? {
        let message = format!("another process has just made a store in {place}");
        return Err(Failure::new("ERR_EXISTS", message).detail("directory", place));
    }
    let hex = keys::hex(&key);
    let options = store::laid_out(Options::default().root_key(key), args.saving);
    let opened = store::open_with(directory, options).await?;
    store::close(&opened, directory).await?;

    let line = || {
        let mut line = json!({ "event": "initialized", "directory": &place, "key_saved": save });
        if made {
            line["root_key"] = hex.as_str().into();
        }
        line
    };
    let text = || {
        let mut text = format!("new store in {place}");
        if made {
            text.push_str(&format!(
                "\nroot key: {hex}\n\
                 It is a secret: whoever has it can read all feeds and add their own."
            ));
        }
        let file = directory.join(KEY_FILE);
        text.push_str(&if save {
            format!("\nThe key is saved in {}, so you need not give it here again.", file.display())
        } else {
            "\nThe key is saved nowhere: keep it, and give it with --key-file or MULTIFEED_KEY."
                .to_owned()
        });
        text.push_str(&format!("\nNext: multifeed append {place} me \"first words\""));
        text
    };
    context.output.result(line, text)
}
