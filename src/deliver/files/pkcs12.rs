//! A certificate with its chain and key as PKCS#12 (RFC 7292): PBES2 with AES-256-CBC and HMAC-SHA-256, and a MAC over
//! SHA-256, as OpenSSL 3, Java 17, Windows Server 2019 and what came after them read it.
//!
//! Salts and IVs are not drawn but derived from the key and all that goes in: the same parcel gives the same file, so
//! that a look tells whether a published one is current, and no two contents share a salt or an IV.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
};
use aws_lc_rs::{digest, hmac, pbkdf2};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};
use zeroize::Zeroizing;

use crate::deliver::payload::DeliveryPayload;

/// The bundle, named by the parcel's label. Nothing where a part cannot be read.
pub(super) fn encode(parcel: &DeliveryPayload, password: &SecretString) -> Option<Zeroizing<Vec<u8>>> {
    let chain = parcel.full_chain_pem();
    let certificates: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().ok()?;
    let key = to_pkcs8(parcel.private_key.expose_secret())?;
    let sealing = BundleEncryption { password: password.expose_secret(), key: &key, certificates: &certificates };
    let name = parcel.recipient.label.as_str();

    let certificate_bags = yasna::construct_der(|writer| {
        writer.write_sequence(|bags| {
            for (number, certificate) in certificates.iter().enumerate() {
                bags.next().write_sequence(|bag| {
                    bag.next().write_oid(&oid(CERT_BAG));
                    write_explicit(bag.next(), |value| {
                        value.write_sequence(|cert_bag| {
                            cert_bag.next().write_oid(&oid(X509_CERTIFICATE));
                            write_explicit(cert_bag.next(), |value| value.write_bytes(certificate));
                        });
                    });
                    if number == 0 {
                        write_attributes(bag.next(), name);
                    }
                });
            }
        });
    });
    let (algorithm, encrypted) = sealing.encrypt("certificates", &certificate_bags)?;
    let encrypted_certificates = yasna::construct_der(|writer| {
        writer.write_sequence(|data| {
            data.next().write_u8(0);
            data.next().write_sequence(|content| {
                content.next().write_oid(&oid(DATA));
                content.next().write_der(&algorithm);
                content.next().write_tagged_implicit(Tag::context(0), |value| value.write_bytes(&encrypted));
            });
        });
    });

    let (algorithm, encrypted) = sealing.encrypt("key", &key)?;
    let key_bags = yasna::construct_der(|writer| {
        writer.write_sequence(|bags| {
            bags.next().write_sequence(|bag| {
                bag.next().write_oid(&oid(SHROUDED_KEY_BAG));
                write_explicit(bag.next(), |value| {
                    value.write_sequence(|info| {
                        info.next().write_der(&algorithm);
                        info.next().write_bytes(&encrypted);
                    });
                });
                write_attributes(bag.next(), name);
            });
        });
    });

    let contents = yasna::construct_der(|writer| {
        writer.write_sequence(|contents| {
            contents.next().write_sequence(|content| {
                content.next().write_oid(&oid(ENCRYPTED_DATA));
                write_explicit(content.next(), |value| value.write_der(&encrypted_certificates));
            });
            contents.next().write_sequence(|content| write_data(content, &key_bags));
        });
    });
    let salt = sealing.derive("mac");
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &derive_mac_key(sealing.password, &salt)), &contents);
    let bundle = yasna::construct_der(|writer| {
        writer.write_sequence(|bundle| {
            bundle.next().write_u8(3);
            bundle.next().write_sequence(|content| write_data(content, &contents));
            bundle.next().write_sequence(|mac_data| {
                mac_data.next().write_sequence(|digest_info| {
                    digest_info.next().write_sequence(|algorithm| {
                        algorithm.next().write_oid(&oid(SHA256));
                        algorithm.next().write_null();
                    });
                    digest_info.next().write_bytes(mac.as_ref());
                });
                mac_data.next().write_bytes(&salt);
                mac_data.next().write_u32(ITERATIONS.get());
            });
        });
    });
    Some(bundle.into())
}

/// What seals a bundle, and what all of its salts are derived from.
struct BundleEncryption<'a> {
    password: &'a str,
    key: &'a [u8],
    certificates: &'a [CertificateDer<'a>],
}

impl BundleEncryption<'_> {
    /// Encrypts by PBES2 (RFC 8018); gives the algorithm with its parameters, and what was encrypted.
    fn encrypt(&self, purpose: &str, plain: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let (salt, iv) = (self.derive(purpose), self.derive(&format!("{purpose} iv")));
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, self.password.as_bytes(), key.as_mut_slice());
        let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key.as_slice()).ok()?).ok()?;
        let mut text = plain.to_vec();
        cipher.less_safe_encrypt(&mut text, EncryptionContext::Iv128(FixedLength::from(iv))).ok()?;
        let algorithm = yasna::construct_der(|writer| {
            writer.write_sequence(|algorithm| {
                algorithm.next().write_oid(&oid(PBES2));
                algorithm.next().write_sequence(|parameters| {
                    parameters.next().write_sequence(|derivation| {
                        derivation.next().write_oid(&oid(PBKDF2));
                        derivation.next().write_sequence(|parameters| {
                            parameters.next().write_bytes(&salt);
                            parameters.next().write_u32(ITERATIONS.get());
                            parameters.next().write_sequence(|function| {
                                function.next().write_oid(&oid(HMAC_WITH_SHA256));
                                function.next().write_null();
                            });
                        });
                    });
                    parameters.next().write_sequence(|scheme| {
                        scheme.next().write_oid(&oid(AES256_CBC));
                        scheme.next().write_bytes(&iv);
                    });
                });
            });
        });
        Some((algorithm, text))
    }

    /// To whoever does not know the private key, as good as random.
    fn derive(&self, purpose: &str) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.key));
        let certificates = self.certificates.iter().map(AsRef::as_ref);
        for part in [purpose.as_bytes(), self.password.as_bytes()].into_iter().chain(certificates) {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        std::array::from_fn(|index| tag.as_ref()[index])
    }
}

/// The key of the MAC (RFC 7292, appendix B.2): one block of SHA-256 is all that it needs.
fn derive_mac_key(password: &str, salt: &[u8]) -> Zeroizing<Vec<u8>> {
    const BLOCK: usize = 64;
    const FOR_MAC: u8 = 3;
    let password: Zeroizing<Vec<u8>> =
        Zeroizing::new(password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect());
    let mut input = Zeroizing::new(vec![FOR_MAC; BLOCK]);
    input.extend(salt.iter().cycle().take(BLOCK));
    input.extend(password.iter().cycle().take(password.len().next_multiple_of(BLOCK)));
    let mut key = Zeroizing::new(digest::digest(&digest::SHA256, &input).as_ref().to_vec());
    for _ in 1..ITERATIONS.get() {
        key = Zeroizing::new(digest::digest(&digest::SHA256, &key).as_ref().to_vec());
    }
    key
}

/// The key as PKCS#8, the only form that a bundle holds.
fn to_pkcs8(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let der = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
        PrivateKeyDer::Pkcs1(key) => {
            let key = RsaKeyPair::from_der(key.secret_pkcs1_der()).ok()?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&key).ok()?.as_ref().to_vec()
        }
        PrivateKeyDer::Sec1(key) => {
            let curves =
                [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
            let read = |curve| EcdsaKeyPair::from_private_key_der(curve, key.secret_sec1_der()).ok();
            curves.into_iter().find_map(read)?.to_pkcs8v1().ok()?.as_ref().to_vec()
        }
        _ => return None,
    };
    Some(der.into())
}

fn write_data(content: &mut yasna::DERWriterSeq<'_>, data: &[u8]) {
    content.next().write_oid(&oid(DATA));
    write_explicit(content.next(), |value| value.write_bytes(data));
}

/// A name for people, and what ties the certificate to its key.
fn write_attributes(writer: DERWriter<'_>, name: &str) {
    writer.write_set_of(|attributes| {
        attributes.next().write_sequence(|attribute| {
            attribute.next().write_oid(&oid(FRIENDLY_NAME));
            attribute.next().write_set_of(|values| values.next().write_bmp_string(name));
        });
        attributes.next().write_sequence(|attribute| {
            attribute.next().write_oid(&oid(LOCAL_KEY_ID));
            attribute.next().write_set_of(|values| values.next().write_bytes(&[1]));
        });
    });
}

fn write_explicit(writer: DERWriter<'_>, value: impl FnOnce(DERWriter<'_>)) {
    writer.write_tagged(Tag::context(0), value);
}

fn oid(numbers: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(numbers)
}

/// As many as `keytool` takes: whoever may read the bundle may mostly read the key beside it, which has no password.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const ENCRYPTED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 6];
const SHROUDED_KEY_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 2];
const CERT_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
const LOCAL_KEY_ID: &[u64] = &[1, 2, 840, 113_549, 1, 9, 21];
const PBES2: &[u64] = &[1, 2, 840, 113_549, 1, 5, 13];
const PBKDF2: &[u64] = &[1, 2, 840, 113_549, 1, 5, 12];
const HMAC_WITH_SHA256: &[u64] = &[1, 2, 840, 113_549, 2, 9];
const AES256_CBC: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 1, 42];
const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
