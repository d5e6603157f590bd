use proptest::prelude::*;

use super::*;

/// Records as a zone file writes them: flags, tag and value.
fn records(records: &[(u8, &str, &str)]) -> Vec<CaaRecord> {
    let record = |&(flags, tag, value): &(u8, &str, &str)| CaaRecord {
        critical: flags & 0x80 != 0,
        tag: tag.to_owned(),
        value: value.to_owned(),
    };
    records.iter().map(record).collect()
}

/// Whether `identity` may issue for `name`, with the account `https://ca.example/acct/1` and by dns-01.
fn verdict(set: &[(u8, &str, &str)], name: &str, identity: &str) -> Result<(), CaaDenialReason> {
    let identities = [identity.to_owned()];
    let (name, account) = (name.parse().unwrap(), Some("https://ca.example/acct/1"));
    let request = CaaRequest { name: &name, identities: &identities, account, method: "dns-01" };
    check_issuance(&records(set), &request).map_err(|forbidden| forbidden.why)
}

fn may(set: &[(u8, &str, &str)], name: &str, identity: &str) -> bool {
    verdict(set, name, identity).is_ok()
}

const CERTS: &str = "certs.example.com";
const WILD: &str = "*.example.com";

#[test]
fn the_examples_of_rfc_8659_for_issue() {
    let two = [(0, "issue", "ca1.example.net"), (0, "issue", "ca2.example.org")];
    assert!(may(&two, CERTS, "ca1.example.net") && may(&two, CERTS, "CA2.example.ORG"));
    assert!(!may(&two, CERTS, "ca3.example.org") && !may(&two, CERTS, "example.net"));
    let nobody = [(0, "issue", ";")];
    assert_eq!(verdict(&nobody, CERTS, "ca1.example.net"), Err(CaaDenialReason::NoCaAllowed));
    let malformed = [(0, "issue", "%%%%%")];
    assert_eq!(verdict(&malformed, CERTS, "ca1.example.net"), Err(CaaDenialReason::NoCaAllowed));
    // A set that permits nobody takes nothing away from one that permits somebody.
    assert!(may(&[nobody[0], malformed[0], two[0]], CERTS, "ca1.example.net"));
    let parameter = [(0, "issue", "ca1.example.net; account=230123")];
    assert!(may(&parameter, CERTS, "ca1.example.net"));
}

#[test]
fn the_examples_of_rfc_8659_for_wildcards() {
    let both = [(0, "issue", "ca1.example.net"), (0, "issuewild", "ca2.example.org")];
    assert!(may(&both, WILD, "ca2.example.org") && !may(&both, WILD, "ca1.example.net"));
    assert!(may(&both, CERTS, "ca1.example.net") && !may(&both, CERTS, "ca2.example.org"));
    let no_wildcards = [(0, "issue", "ca1.example.net"), (0, "issuewild", ";")];
    assert_eq!(verdict(&no_wildcards, WILD, "ca1.example.net"), Err(CaaDenialReason::NoCaAllowed));
    assert!(may(&no_wildcards, CERTS, "ca1.example.net"));
    let only_wild = [(0, "issuewild", "ca1.example.net")];
    assert!(may(&only_wild, CERTS, "ca9.example.net") && !may(&only_wild, WILD, "ca9.example.net"));
    let issue_alone = [(0, "issue", "ca1.example.net")];
    assert!(may(&issue_alone, WILD, "ca1.example.net") && !may(&issue_alone, WILD, "ca2.example.net"));
}

#[test]
fn critical_properties_are_known_or_forbid() {
    let future = [(0, "issue", "ca1.example.net"), (128, "tbs", "Unknown")];
    assert_eq!(verdict(&future, CERTS, "ca1.example.net"), Err(CaaDenialReason::UnknownCriticalTag("tbs".to_owned())));
    assert!(may(&[(0, "tbs", "Unknown")], CERTS, "ca1.example.net"), "it is not critical");
    assert!(may(&[(1, "tbs", "Unknown")], CERTS, "ca1.example.net"), "a reserved flag");
    let reported = [(128, "iodef", "mailto:security@example.com"), (128, "ISSUE", "ca1.example.net")];
    assert!(may(&reported, CERTS, "ca1.example.net") && !may(&reported, CERTS, "ca2.example.net"));
    assert!(may(&[], CERTS, "ca1.example.net"));
}

#[test]
fn rfc_8657_binds_to_an_account_and_a_method() {
    for (value, expected) in [
        ("ca.example; accounturi=https://ca.example/acct/1", true),
        ("ca.example; accounturi=https://ca.example/acct/2", false),
        ("ca.example; accounturi=https://ca.example/acct/1/", false),
        ("ca.example;accounturi=https://ca.example/acct/1;accounturi=https://ca.example/acct/1", false),
        ("ca.example; accounturi=", false),
        ("ca.example; validationmethods=dns-01", true),
        ("ca.example; validationmethods=http-01,dns-01", true),
        ("ca.example; validationmethods=http-01", false),
        ("ca.example; validationmethods=", false),
        ("ca.example; validationmethods=dns-01,,http-01", false),
        ("ca.example; validationmethods=dns-01; validationmethods=dns-01", false),
        ("ca.example ; validationmethods = dns-01 ; accounturi = https://ca.example/acct/1 ", true),
        ("ca.example; validationmethods=dns-01; accounturi=https://ca.example/acct/2", false),
        ("ca.example; validationmethods", false),
        ("ca.example; =dns-01", false),
        ("ca.example; validationmethods=dns-01;", false),
        ("other.example; accounturi=https://ca.example/acct/1", false),
    ] {
        assert_eq!(may(&[(0, "issue", value)], CERTS, "ca.example"), expected, "{value}");
    }
    let unregistered = CaaRequest {
        name: &CERTS.parse().unwrap(),
        identities: &["ca.example".to_owned()],
        account: None,
        method: "dns-01",
    };
    let pinned = records(&[(0, "issue", "ca.example; accounturi=https://ca.example/acct/1")]);
    assert!(check_issuance(&pinned, &unregistered).is_err());
    // One property that fits is enough.
    let both = [(0, "issue", "ca.example; validationmethods=http-01"), (0, "issue", "ca.example")];
    assert!(may(&both, CERTS, "ca.example"));
}

#[test]
fn what_is_forbidden_is_said_in_words() {
    let words = |set: &[(u8, &str, &str)], identities: &[&str]| {
        let identities: Vec<String> = identities.iter().map(ToString::to_string).collect();
        let name = CERTS.parse().unwrap();
        let request = CaaRequest { name: &name, identities: &identities, account: None, method: "dns-01" };
        check_issuance(&records(set), &request).unwrap_err().to_string()
    };
    assert_eq!(
        words(&[(0, "issue", "a.example"), (0, "issue", "b.example")], &["c.example"]),
        "CAA forbids a certificate for certs.example.com: its records let only a.example, b.example issue, and not c.example"
    );
    assert!(words(&[(0, "issue", "a.example")], &[]).ends_with("and the CA's directory names no identity of its own"));
    assert!(
        words(&[(0, "issue", "a.example; validationmethods=http-01")], &["a.example"])
            .ends_with("its records let a.example issue, but not to this account or not by dns-01")
    );
}

#[test]
fn the_climb_ends_below_the_root() {
    let places = |name: &str| climb_tree(&name.parse().unwrap()).map(ToOwned::to_owned).collect::<Vec<_>>();
    assert_eq!(places("x.y.example.com"), ["x.y.example.com", "y.example.com", "example.com", "com"]);
    assert_eq!(places("*.example.com"), ["example.com", "com"]);
}

proptest! {
    /// Whatever the value is, it permits only a CA that it names before its first semicolon.
    #[test]
    fn no_text_permits_a_ca_that_it_does_not_name(value in "\\PC{0,40}") {
        let named = value.split(';').next().unwrap().trim_matches([' ', '\t']).eq_ignore_ascii_case("ca.example");
        prop_assert!(named || !may(&[(0, "issue", value.as_str())], CERTS, "ca.example"));
    }

    /// A further property that names nobody changes nothing, and the order of properties does not matter.
    #[test]
    fn only_what_the_set_says_counts(
        picked in prop::collection::vec(0usize..5, 1..6),
        wild in any::<bool>(),
    ) {
        let pool = [
            (0, "issue", "ca.example"), (0, "issuewild", "ca.example"), (0, "issue", "other.example"),
            (0, "issuewild", "other.example"), (0, "iodef", "mailto:a@example.com"),
        ];
        let name = if wild { WILD } else { CERTS };
        let set: Vec<_> = picked.iter().map(|&at| pool[at]).collect();
        let reversed: Vec<_> = set.iter().rev().copied().collect();
        prop_assert_eq!(may(&set, name, "ca.example"), may(&reversed, name, "ca.example"));
        let relevant = if wild && set.iter().any(|record| record.1 == "issuewild") { "issuewild" } else { "issue" };
        let asked: Vec<_> = set.iter().filter(|record| record.1 == relevant).collect();
        let expected = asked.is_empty() || asked.iter().any(|record| record.2 == "ca.example");
        prop_assert_eq!(may(&set, name, "ca.example"), expected);
        if !asked.is_empty() {
            let more: Vec<_> = set.iter().copied().chain([(0, relevant, ";")]).collect();
            prop_assert_eq!(may(&more, name, "ca.example"), expected);
        }
    }
}
