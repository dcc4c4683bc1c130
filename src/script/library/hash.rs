//! `hash`, and `generate_uuid`.

use std::fmt::Write as _;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use mlua::{Lua, LuaString, Table};
use sha2::{Digest, Sha256};

use super::{Shared, refuse};

pub(super) fn register(lua: &Lua, table: &Table, shared: &Arc<Shared>) -> mlua::Result<()> {
    let own = Arc::clone(shared);
    let sha256 = move |_: &Lua, text: LuaString| {
        pay(&own, text.as_bytes().len())?;
        Ok(hex(&Sha256::digest(&*text.as_bytes())))
    };
    table.raw_set("sha256", lua.create_function(sha256)?)?;
    let own = Arc::clone(shared);
    let hmac_sha256 = move |_: &Lua, (key, text): (LuaString, LuaString)| {
        pay(&own, key.as_bytes().len() + text.as_bytes().len())?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.as_bytes())
            .map_err(|error| refuse(error.to_string()))?;
        mac.update(&text.as_bytes());
        Ok(hex(&mac.finalize().into_bytes()))
    };
    table.raw_set("hmac_sha256", lua.create_function(hmac_sha256)?)?;
    let uuid = |_: &Lua, ()| Ok(uuid::Uuid::new_v4().to_string());
    table.raw_set("uuid", lua.create_function(uuid)?)
}

fn pay(shared: &Shared, bytes: usize) -> mlua::Result<()> {
    Ok(shared.budget.spend(BLOCK + bytes / BYTES_PER_INSTRUCTION)?)
}

/// What one block costs, in instructions.
const BLOCK: usize = 50;

/// Hashing this many bytes costs as much as one instruction.
const BYTES_PER_INSTRUCTION: usize = 4;

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}
