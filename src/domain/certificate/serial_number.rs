//! Serial numbers (RFC 5280 section 4.1.2.2) as people write them.

use std::str::FromStr;

/// The serial number of a certificate, equal to another one however they were written: in hex of either case, with or
/// without colons and leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SerialNumber(String);

/// A text that is no serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is hex, with or without colons between its bytes")]
pub struct InvalidSerialNumber;

impl FromStr for SerialNumber {
    type Err = InvalidSerialNumber;

    fn from_str(text: &str) -> Result<Self, InvalidSerialNumber> {
        let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_uppercase()).collect();
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(InvalidSerialNumber);
        }
        Ok(Self(digits.trim_start_matches('0').to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_however_it_was_written() {
        let serial: SerialNumber = "00:AB:01".parse().unwrap();
        for text in ["ab01", "AB01", "0AB01", "ab:01", "00ab01"] {
            assert_eq!(text.parse(), Ok(serial.clone()), "{text}");
        }
        assert_ne!("AB:10".parse(), Ok(serial));
        for text in ["", ":", "www.example.com", "0xab01", "ab 01"] {
            assert_eq!(text.parse::<SerialNumber>(), Err(InvalidSerialNumber), "{text}");
        }
    }
}
