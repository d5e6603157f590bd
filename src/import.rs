//! What other ACME tools left on the disk, read and judged: a [`FileTree`] of their files, and in it the [`Lineage`]s, each
//! of them a certificate with its key and the wish behind it. A file for each tool knows where that tool keeps things;
//! everything else is the same for all. Nothing is ever written, and nothing is asked over the network.

mod account;
mod acme_sh;
mod certbot;
mod dehydrated;
mod fault;
mod leftovers;
mod lego;
mod lineage;
mod pem;
mod pem_files;
mod servers;
#[cfg(test)]
mod tests;
mod tree;

pub use account::TreeAccount;
pub use fault::Fault;
pub use leftovers::{Leftover, find_leftovers};
pub use lineage::{ImportNote, Lineage, PlannedImport};
pub use tree::{FileTree, UnreadableTree};

use crate::domain::value::email::Email;
use crate::domain::value::moment::Moment;
use crate::domain::value::server_url::{PlainHttpPolicy, ServerUrl};

/// A tool whose tree can be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceTool {
    /// certbot; its tree is usually `/etc/letsencrypt`.
    Certbot,
    /// lego; its tree is usually `.lego`.
    Lego,
    /// acme.sh; its tree is usually `~/.acme.sh`.
    AcmeSh,
    /// dehydrated; its tree is its `BASEDIR`, on Debian `/var/lib/dehydrated`.
    Dehydrated,
    /// No tool: PEM files in a folder, or one file with certificate, chain and key.
    Pem,
}

impl SourceTool {
    /// The name on the command line and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certbot => "certbot",
            Self::Lego => "lego",
            Self::AcmeSh => "acme.sh",
            Self::Dehydrated => "dehydrated",
            Self::Pem => "pem",
        }
    }

    /// What a tree of this tool looks like, for those who gave another folder.
    pub const fn expected_layout(self) -> &'static str {
        match self {
            Self::Certbot => "a folder with renewal/, live/ and accounts/, such as /etc/letsencrypt",
            Self::Lego => "a folder with certificates/ and accounts/, such as .lego",
            Self::AcmeSh => "a folder with ca/ and a folder for each certificate, such as ~/.acme.sh",
            Self::Dehydrated => "a folder with certs/ and accounts/, such as /var/lib/dehydrated",
            Self::Pem => "a file or folder with PEM certificates and their private keys",
        }
    }

    /// Whether a lineage of this tool may need the content of a file. No other file is opened: certbot and dehydrated keep
    /// every certificate and key that there ever was.
    fn needs(self, path: &str) -> bool {
        match self {
            Self::Certbot => certbot::needs(path),
            Self::Lego => lego::needs(path),
            Self::AcmeSh => acme_sh::needs(path),
            Self::Dehydrated => dehydrated::needs(path),
            Self::Pem => true,
        }
    }

    /// What the tool keeps beside its certificates.
    const fn known_leftovers(self) -> &'static [leftovers::KnownLeftover] {
        match self {
            Self::Certbot => certbot::LEFTOVERS,
            Self::Lego => lego::LEFTOVERS,
            Self::AcmeSh => acme_sh::LEFTOVERS,
            Self::Dehydrated => dehydrated::LEFTOVERS,
            Self::Pem => &[],
        }
    }

    /// Why a file that is not known went into no lineage, by its text where it was read.
    fn why_unused(self, text: Option<&str>) -> &'static str {
        match (self, text) {
            (Self::Pem, Some(text)) => pem_files::why_unused(text),
            _ => "not part of any certificate that the tool renews",
        }
    }
}

/// What the person who imports knows better than the tree.
#[derive(Clone, Debug)]
pub struct ImportOverrides {
    /// The ACME server of all lineages.
    pub server: Option<ServerUrl>,
    /// The contact of all accounts.
    pub email: Option<Email>,
    /// Whether a server may be spoken to without TLS.
    pub plain_http: PlainHttpPolicy,
}

/// The lineages of a tree, in the order of their names. What cannot be taken says why, and holds up no other.
pub fn find_lineages(tool: SourceTool, tree: &FileTree, overrides: &ImportOverrides, now: Moment) -> Vec<Lineage> {
    let findings = match tool {
        SourceTool::Certbot => certbot::find_certificates(tree, overrides),
        SourceTool::Lego => lego::find_certificates(tree, overrides),
        SourceTool::AcmeSh => acme_sh::find_certificates(tree, overrides),
        SourceTool::Dehydrated => dehydrated::find_certificates(tree, overrides),
        SourceTool::Pem => pem_files::find_certificates(tree, overrides),
    };
    let mut lineages: Vec<Lineage> =
        findings.into_iter().map(|(name, finding)| Lineage::from_found(name, finding, overrides, now)).collect();
    lineages.sort_by(|one, other| one.name.cmp(&other.name));
    lineages
}
