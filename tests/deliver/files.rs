//! Published files.

mod bundle;
mod fixture;
mod kill;
mod odd_folders;
mod payloads;
mod placeholder;
mod publication;
mod rights;
