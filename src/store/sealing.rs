//! Private keys and credentials are encrypted before they are stored, and decrypted when they are read.

pub(super) mod key_check;
pub(super) mod key_ring;
pub(super) mod rotation;
pub(super) mod seal;
