//! Published files.

mod bundle;
mod kill;
mod odd_folders;
mod parcels;
mod placeholder;
mod publication;
mod rights;
mod stand;
