//! Writes inputs for the simple targets from the vectors that were recorded from the JavaScript:
//! `cargo run --no-default-features --example seeds -- FOLDER` makes a folder for each target there.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Longest input made of a recorded stream, in bytes.
const LONGEST: usize = 1500;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args().nth(1).ok_or("a folder is needed")?);
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../multifeed-proto/tests/vectors");
    let read = |name: &str| -> Result<Value, Box<dyn Error>> {
        Ok(serde_json::from_str(&fs::read_to_string(vectors.join(name))?)?)
    };
    let framing = read("framing.json")?;
    for (i, case) in list(&framing["decode"]).enumerate() {
        let bytes: Vec<u8> = list(&case["chunks"]).flat_map(hex).collect();
        write(&out, "frames", &format!("framing_{i}"), &[&[0], &bytes])?;
        write(&out, "wire", &format!("framing_{i}"), &[&[10], &bytes])?;
    }
    let messages = read("messages.json")?;
    let both = [("encode", "encoded"), ("decode", "input")];
    for (list_name, field) in both {
        for (i, case) in list(&messages[list_name]).enumerate() {
            let Some(kind) = kind(case["name"].as_str().unwrap_or_default()) else { continue };
            let body = hex(&case[field]);
            write(&out, "messages", &format!("{list_name}_{i}"), &[&[kind], &body])?;
        }
    }
    let rle = read("bitfield_rle.json")?;
    for (list_name, field) in
        [("cases", "encoded"), ("malformed", "encoded"), ("haves", "haveBitfield")]
    {
        for (i, case) in list(&rle[list_name]).enumerate() {
            let encoded = hex(&case[field]);
            let encoded = &encoded[..encoded.len().min(LONGEST)];
            write(&out, "rle", &format!("{list_name}_{i}"), &[&[0, 0], encoded])?;
        }
    }
    for name in [
        "mux_a_live",
        "mux_a_nonlive",
        "mux_a_empty_nonlive",
        "mux_b_live",
        "mux_b_empty",
        "mux_b_live_rootkey_late",
        "noise_1",
        "noise_2",
        "noise_3_unencrypted",
    ] {
        recorded(&out, name, &read(&format!("{name}.json"))?)?;
    }
    Ok(())
}

/// What each side of a recorded connection said, as inputs of several targets.
fn recorded(out: &Path, name: &str, vector: &Value) -> Result<(), Box<dyn Error>> {
    for side in ["I", "R"] {
        let file = format!("{name}_{side}");
        let frames = || list(&vector["frames"]).filter(|frame| frame["from"] == side);
        let mut stream: Vec<u8> = frames().flat_map(|frame| hex(&frame["plaintext"])).collect();
        stream.truncate(LONGEST);
        write(out, "frames", &file, &[&[0], &stream])?;
        write(out, "wire", &file, &[&[8], &stream])?;
        let payload = hex(&vector["noise"][side]["payload"]);
        let len = [payload.len() as u8];
        let mut pieces = Vec::new();
        for piece in stream.chunks(200) {
            pieces.push(piece.len() as u8);
            pieces.extend_from_slice(piece);
        }
        write(
            out,
            "wire",
            &format!("{file}_handshake"),
            &[&[6], &len, &payload, &len, &payload, &pieces],
        )?;
        let mut json = vec![u8::from(vector["config"]["dialect"] == "a")];
        for frame in frames().filter(|frame| frame["name"] == "Extension") {
            let body = hex(&frame["plaintext"]);
            // Length, header, number of the extension, JSON.
            let begins = |at: &usize| *at > 1 && matches!(body[*at], b'{' | b'[');
            let Some(at) = (0..body.len()).find(begins) else { continue };
            json.push(body[at - 1]);
            json.extend_from_slice(&body[at..]);
            json.push(0);
        }
        json.truncate(LONGEST);
        write(out, "json", &file, &[&json])?;
    }
    Ok(())
}

fn kind(name: &str) -> Option<u8> {
    const NAMES: [&str; 11] = [
        "Open", "Options", "Status", "Have", "Unhave", "Want", "Unwant", "Request", "Cancel",
        "Data", "Close",
    ];
    NAMES.iter().position(|known| *known == name).map(|kind| kind as u8)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default().as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    text.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn write(out: &Path, target: &str, name: &str, parts: &[&[u8]]) -> Result<(), Box<dyn Error>> {
    let folder = out.join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), parts.concat())?)
}
