//! The look-up of CAA records: up the tree, through CNAMEs, and never past a server that fails.

use autocertd::config::dns::PropagationSection;
use autocertd::dns::DnsError;
use autocertd::dns::caa::CaaLookup;
use autocertd::domain::failure::disposition::Disposition;
use autocertd_support::cloud_dns::CloudDns;

/// The values of the relevant records for a name, through the local Cloud DNS.
async fn relevant(cloud: &CloudDns, name: &str) -> Result<Vec<String>, DnsError> {
    let section = PropagationSection { resolvers: vec![cloud.dns_addr().into()], ..PropagationSection::default() };
    let found = CaaLookup::new(&section).find_relevant(&name.parse().unwrap()).await?;
    let critical = |critical| if critical { "!" } else { "" };
    let shown = |record: autocertd::domain::provider::caa::CaaRecord| {
        format!("{}{} {}", critical(record.critical), record.tag, record.value)
    };
    let mut shown: Vec<String> = found.into_iter().map(shown).collect();
    shown.sort();
    Ok(shown)
}

async fn with_records() -> CloudDns {
    let cloud = CloudDns::start().await.unwrap();
    let (top, zone) = (cloud.add_zone("test"), cloud.add_zone("example.test"));
    for (zone, name, kind, content) in [
        (&zone, "", "CAA", r#"0 issue "ca.example; accounturi=https://ca.example/acct/1""#),
        (&zone, "", "CAA", r#"128 tbs "unknown""#),
        (&zone, "own", "CAA", r#"0 issue ";""#),
        (&zone, "a.b", "TXT", "there"),
        (&zone, "alias", "CNAME", "pointed.elsewhere.test"),
        (&zone, "empty-alias", "CNAME", "plain.elsewhere.test"),
        (&zone, "loop", "CNAME", "loop.example.test"),
        (&top, "pointed.elsewhere", "CAA", r#"0 issue "other.example""#),
        (&top, "plain.elsewhere", "TXT", "no CAA here"),
    ] {
        cloud.add_record(zone, name, kind, content);
    }
    cloud
}

#[tokio::test]
async fn the_first_place_with_records_on_the_way_up_counts() {
    let cloud = with_records().await;
    let apex = ["!tbs unknown", "issue ca.example; accounturi=https://ca.example/acct/1"];
    for name in ["example.test", "*.example.test", "a.b.example.test", "nowhere.at.all.example.test"] {
        assert_eq!(relevant(&cloud, name).await.unwrap(), apex, "{name}");
    }
    assert_eq!(relevant(&cloud, "x.own.example.test").await.unwrap(), ["issue ;"]);
    assert!(relevant(&cloud, "www.free.test").await.unwrap().is_empty(), "none up to the root");
}

#[tokio::test]
async fn an_alias_shows_the_records_of_its_target_and_the_climb_goes_on_from_the_alias() {
    let cloud = with_records().await;
    assert_eq!(relevant(&cloud, "alias.example.test").await.unwrap(), ["issue other.example"]);
    let above = relevant(&cloud, "empty-alias.example.test").await.unwrap();
    assert_eq!(above.len(), 2, "{above:?}");
}

#[tokio::test]
async fn a_server_that_fails_is_no_empty_answer() {
    let cloud = with_records().await;
    cloud.fail_dns("failing.example.test");
    for name in ["loop.example.test", "failing.example.test"] {
        let error = relevant(&cloud, name).await.unwrap_err();
        assert!(matches!(error, DnsError::NoCaa { .. }), "{error:?}");
        assert_eq!(error.disposition(), Disposition::RETRY);
        assert!(error.to_string().contains(name), "{error}");
    }
}
