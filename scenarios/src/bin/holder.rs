//! Opens the store in the folder of its argument, appends a block, says so, and keeps it open until its
//! standard input ends.

use std::error::Error;
use std::io::Read;

use multifeed_async_std::Multifeed;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("a folder is wanted")?;
    smol::block_on(async {
        let multi = Multifeed::open(folder, scenarios::options()).await?;
        multi.writer("holder").await?.append("of the other process").await?;
        println!("open");
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(multi.close().await?)
    })
}
