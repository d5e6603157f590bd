//! `autocertd limits`: what counts against the limits of each provider's CA, and when there is room again.

use anyhow::Context;
use clap::Args;
use comfy_table::Table;
use serde::Serialize;

use crate::app::{App, IfStoreMissing};
use crate::cli::deliveries::empty_table;
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::domain::provider::Provider;
use crate::domain::provider::rate_limit_ledger::{BucketLevel, CaLimits, RateLimit};
use crate::domain::value::human_duration::format_relative;
use crate::domain::value::id::ProviderId;
use crate::domain::value::moment::Moment;
use crate::domain::value::text::printable;
use crate::store::{LedgerAccount, Page, Store};

#[derive(Debug, Args)]
pub(super) struct LimitsCommand {
    /// Only those of the providers of these ids, names or keys in the settings
    providers: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a provider stands with its CA.
#[derive(Debug, Serialize)]
struct ProviderLimits {
    id: ProviderId,
    name: String,
    server: String,
    /// Its URL, once it is registered.
    account: Option<String>,
    limits: KnownLimits,
    /// Those that something counts in.
    buckets: Vec<BucketUsage>,
}

/// The limits of a CA; what is absent is not known or without limit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KnownLimits {
    orders: Option<String>,
    certificates_of_domain: Option<String>,
    certificates_of_name_set: Option<String>,
    failures_of_name: Option<String>,
}

/// How full a bucket is.
#[derive(Debug, Serialize)]
struct BucketUsage {
    /// Its kind.
    bucket: &'static str,
    /// The domain, the names or the name that it is about; empty for the account itself.
    subject: String,
    used: u32,
    count: u32,
    /// The span within which `count` may be used, in seconds.
    seconds: i64,
    /// When one more may be used, RFC 3339.
    next: String,
    #[serde(skip)]
    row: [String; 3],
}

pub(super) fn run(config: &Config, command: &LimitsCommand) -> anyhow::Result<CommandOutcome> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let Some(providers) = select_providers(&app.store, &command.providers).await? else {
            return Ok(CommandOutcome::UsageError);
        };
        let mut stands = Vec::with_capacity(providers.len());
        for provider in providers {
            stands.push(ProviderLimits::load(config, &app.store, provider, app.clock.now()).await?);
        }
        if command.json {
            crate::cli::output::print_json(&stands)?;
        } else {
            print(&stands);
        }
        Ok(CommandOutcome::Success)
    })
}

/// The providers that are meant, each once, which are all where none is named; says which text means none.
async fn select_providers(store: &Store, wanted: &[String]) -> anyhow::Result<Option<Vec<Provider>>> {
    let mut chosen = load_providers(store).await?;
    let (mut meant, mut unknown) = (Vec::new(), Vec::new());
    for text in wanted {
        let matching = store.matching_providers(text).await?;
        if matching.is_empty() {
            unknown.push(printable(text));
        }
        meant.extend(matching.iter().map(|provider| provider.id));
    }
    if !unknown.is_empty() {
        eprintln!("autocertd: no provider has the id, name or key: {}", unknown.join(", "));
        return Ok(None);
    }
    chosen.retain(|provider| wanted.is_empty() || meant.contains(&provider.id));
    Ok(Some(chosen))
}

async fn load_providers(store: &Store) -> anyhow::Result<Vec<Provider>> {
    let mut all = Vec::new();
    loop {
        let offset = u32::try_from(all.len()).context("too many providers")?;
        let page = store.providers(Page { offset, limit: PAGE_SIZE }).await?;
        all.extend(page.items);
        if !page.has_more {
            return Ok(all);
        }
    }
}

impl ProviderLimits {
    async fn load(config: &Config, store: &Store, provider: Provider, now: Moment) -> anyhow::Result<Self> {
        let limits = config.acme.limits_for(&provider.server);
        let books = LedgerAccount { account: provider.account_url, server: provider.server, limits };
        let levels = store.ledger(&books, now).await?.levels(now);
        Ok(Self {
            id: provider.id,
            name: provider.name.to_string(),
            server: books.server.to_string(),
            account: books.account,
            limits: limits.into(),
            buckets: levels.iter().map(|level| BucketUsage::from_level(level, now)).collect(),
        })
    }
}

impl From<CaLimits> for KnownLimits {
    fn from(limits: CaLimits) -> Self {
        let words = |rate: Option<RateLimit>| rate.map(|rate| rate.to_string());
        Self {
            orders: words(limits.orders_per_account),
            certificates_of_domain: words(limits.certificates_per_domain),
            certificates_of_name_set: words(limits.certificates_per_name_set),
            failures_of_name: words(limits.failed_validations_per_name),
        }
    }
}

impl KnownLimits {
    /// In words, one for each that is known.
    fn describe(&self) -> Vec<String> {
        let all = [
            ("orders of the account", &self.orders),
            ("new certificates of a registered domain", &self.certificates_of_domain),
            ("certificates for exactly the same names", &self.certificates_of_name_set),
            ("failed validations of a name", &self.failures_of_name),
        ];
        all.into_iter().filter_map(|(words, rate)| rate.as_ref().map(|rate| format!("{words}: {rate}"))).collect()
    }
}

impl BucketUsage {
    fn from_level(level: &BucketLevel, now: Moment) -> Self {
        let BucketLevel { bucket, rate, used, next_allowed: next } = level;
        let when = if *next > now { format!("{}\n{next}", format_relative(now, *next)) } else { "now".to_owned() };
        Self {
            bucket: bucket.kind().as_str(),
            subject: bucket.subject().to_owned(),
            used: *used,
            count: rate.count(),
            seconds: rate.span().whole_seconds(),
            next: (*next).max(now).to_string(),
            row: [bucket.to_string(), format!("{used} of {rate}"), when],
        }
    }
}

fn print(stands: &[ProviderLimits]) {
    if stands.is_empty() {
        println!("there is no provider");
    }
    for (index, stand) in stands.iter().enumerate() {
        if index > 0 {
            println!();
        }
        let url = stand.account.as_deref().unwrap_or("not registered yet");
        println!("{}\n  server:  {}\n  account: {url}", stand.name, stand.server);
        let limits = stand.limits.describe();
        if limits.is_empty() {
            println!("  No limits of this CA are known. Where it has some, set them in the settings:");
            println!("    [[acme.limits]]\n    server = {:?}\n    orders = \"300 in 3h\"", stand.server);
            continue;
        }
        for line in limits {
            println!("  {line}");
        }
        if stand.buckets.is_empty() {
            println!("  Nothing counts against them by now.");
        } else {
            println!("\n{}", table(&stand.buckets).trim_fmt());
        }
    }
}

fn table(buckets: &[BucketUsage]) -> Table {
    let mut table = empty_table(&["WHAT COUNTS", "USED", "NEXT"]);
    table.set_width(TABLE_WIDTH);
    for bucket in buckets {
        table.add_row(&bucket.row);
    }
    table
}

const PAGE_SIZE: u32 = 500;
/// Of a terminal, in characters.
const TABLE_WIDTH: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    use crate::domain::provider::rate_limit_ledger::RateLimitBucket;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    #[test]
    fn full_buckets_read_well_in_80_columns() {
        let week = RateLimit::new(50, Duration::days(7)).unwrap();
        let names = "shop.dept.example.com,b.example.com,c.example.com";
        let levels = [
            (RateLimitBucket::Orders, RateLimit::new(300, Duration::hours(3)).unwrap(), 300, Duration::seconds(36)),
            (RateLimitBucket::Domain("example.com".to_owned()), week, 12, Duration::ZERO),
            (RateLimitBucket::NameSet(names.to_owned()), week, 50, Duration::hours(34)),
        ];
        let rows: Vec<BucketUsage> = levels
            .map(|(bucket, rate, used, until)| {
                BucketUsage::from_level(&BucketLevel { bucket, rate, used, next_allowed: NOW + until }, NOW)
            })
            .into();
        insta::assert_snapshot!(table(&rows).trim_fmt(), @r"
        WHAT COUNTS                       USED               NEXT
        orders of the account             300 of 300 in 3 h  in 36 s
                                                             2027-01-15T08:00:36Z
        new certificates of example.com   12 of 50 in 7 d    now
        certificates for exactly          50 of 50 in 7 d    in 1 d 10 h
        shop.dept.example.com and 2 more                     2027-01-16T18:00:00Z
        ");
    }
}
