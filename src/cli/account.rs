//! `autocertd account`: the ACME accounts of providers. What is done here is done beside a daemon, too: whoever works on
//! an account holds its provider's lease.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::app::{App, IfStoreMissing, Integrations};
use crate::cli::owner::{self, StdoutMode};
use crate::cli::{CommandOutcome, log, runtime};
use crate::config::Config;
use crate::domain::declared::DeclaredKey;
use crate::domain::provider::{ImportedAccount, Provider};
use crate::domain::report::state;
use crate::domain::value::id::ProviderId;
use crate::domain::value::text::printable;
use crate::runtime::files;

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Show the account of a provider
    Show {
        #[command(flatten)]
        whose: ProviderArgument,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Register the account of a provider that has none, also where it was deactivated before
    Register(ProviderArgument),
    /// Give the account a new key; its URL stays, and CAA records need no change. The old key is of no use from then on
    Rollover(ProviderArgument),
    /// Deactivate the account for good: the CA takes nothing from it any more. Refused while auto-certificates use the
    /// provider
    Deactivate {
        #[command(flatten)]
        whose: ProviderArgument,
        /// Do it; it cannot be undone
        #[arg(long)]
        yes: bool,
    },
    /// Make the account of another ACME client the provider's own, by its private key. An account with another key than
    /// one on P-256, such as certbot's, gets a new key, so that the other client can no longer use it
    Adopt {
        #[command(flatten)]
        whose: ProviderArgument,
        /// The private key: PEM, or a JSON Web Key such as certbot's `private_key.json`
        key_file: PathBuf,
        /// The account's URL, where the CA does not tell it by the key
        #[arg(long, value_name = "URL")]
        account_url: Option<String>,
        /// Put it in the place of another account that the provider has
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct ProviderArgument {
    /// The provider's id, its name, or its key in the settings
    provider: String,
}

pub(super) fn run(config: &Config, command: &AccountCommand) -> anyhow::Result<CommandOutcome> {
    if let AccountCommand::Deactivate { yes: false, whose } = command {
        eprintln!(
            "autocertd: this deactivates the ACME account of {} for good: the CA takes no order from it any more, and \
             CAA records that pin it forbid every other account. Certificates stay valid. --yes does it",
            printable(&whose.provider)
        );
        return Ok(CommandOutcome::UsageError);
    }
    let outside = Integrations::from_config(config)?;
    let task = match prepare_task(config, command)? {
        OwnerFlow::Continue(task) => task,
        OwnerFlow::Done(ending) => return Ok(ending),
    };
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let Some(provider) = find_provider(&app, &command.provider_argument().provider).await? else {
            return Ok(CommandOutcome::UsageError);
        };
        run_task(&app, outside, task, &provider).await?;
        Ok(CommandOutcome::Success)
    })
}

/// What is to be done with the account.
enum AccountTask {
    Show { json: bool },
    Register,
    RollOver,
    Deactivate,
    Adopt(ImportedAccount),
}

/// Whose work the rest is.
enum OwnerFlow<T> {
    Continue(T),
    /// The owner of the store did it.
    Done(CommandOutcome),
}

fn prepare_task(config: &Config, command: &AccountCommand) -> anyhow::Result<OwnerFlow<AccountTask>> {
    let task = match command {
        AccountCommand::Adopt { key_file, account_url, replace, .. } => match read_imported_key(config, key_file)? {
            OwnerFlow::Continue(key) => {
                AccountTask::Adopt(ImportedAccount { key, url: account_url.clone(), replaces: *replace })
            }
            OwnerFlow::Done(ending) => return Ok(OwnerFlow::Done(ending)),
        },
        AccountCommand::Show { json, .. } => AccountTask::Show { json: *json },
        AccountCommand::Register(_) => AccountTask::Register,
        AccountCommand::Rollover(_) => AccountTask::RollOver,
        AccountCommand::Deactivate { .. } => AccountTask::Deactivate,
    };
    if !matches!(task, AccountTask::Adopt(_)) {
        owner::become_owner_of(&config.state_directory())?;
    }
    Ok(OwnerFlow::Continue(task))
}

async fn run_task(app: &App, outside: Integrations, task: AccountTask, provider: &Provider) -> anyhow::Result<()> {
    let (registrar, name) = (app.registrar(outside), &provider.name);
    match task {
        AccountTask::Show { json } => show(app, provider, json).await?,
        AccountTask::Register => {
            let url = registrar.register_on_request(provider.id).await?;
            println!("{name} has the ACME account {url}");
        }
        AccountTask::RollOver => {
            let url = registrar.roll_over(provider.id).await?;
            println!("the ACME account {url} of {name} has a new key");
        }
        AccountTask::Deactivate => {
            let url = registrar.deactivate(provider.id).await?;
            println!(
                "the ACME account {url} of {name} is deactivated; `autocertd account register` registers another one"
            );
        }
        AccountTask::Adopt(carried) => {
            let adopted = registrar.adopt(provider.id, &carried).await?;
            let since = if adopted.has_new_key {
                "it has a new key, and the other client can use it no longer"
            } else {
                "take it away from the other client, or give it a new key by `autocertd account rollover`"
            };
            println!("the ACME account {} is that of {name} now; {since}", adopted.url);
        }
    }
    Ok(())
}

/// What is shown of an account; never a key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountEntry {
    provider: ProviderId,
    name: String,
    key: Option<DeclaredKey>,
    server: String,
    email: String,
    external_account_key_id: Option<String>,
    account_url: Option<String>,
    key_change_pending: bool,
    state: &'static str,
    message: String,
}

async fn show(app: &App, provider: &Provider, json: bool) -> anyhow::Result<()> {
    let stored = app.store.account(provider.id).await?.context("the provider was deleted meanwhile")?;
    let report = state::provider_state(provider);
    let shown = AccountEntry {
        provider: provider.id,
        name: provider.name.to_string(),
        key: app.store.declared_key_of_provider(provider.id).await?,
        server: provider.server.to_string(),
        email: provider.email.to_string(),
        external_account_key_id: provider.external_account_key_id.clone(),
        account_url: provider.account_url.clone(),
        key_change_pending: stored.key_change.is_some(),
        state: report.state.as_str(),
        message: report.message,
    };
    if json {
        crate::cli::output::print_json(&shown)?;
        return Ok(());
    }
    println!("provider  {} ({})", shown.name, shown.provider);
    if let Some(key) = &shown.key {
        println!("key       {key}");
    }
    println!("server    {}", shown.server);
    println!("contact   {}", shown.email);
    if let Some(key_id) = &shown.external_account_key_id {
        println!("bound to  {}", printable(key_id));
    }
    println!("account   {}", shown.account_url.as_deref().map_or("none".into(), printable));
    if shown.key_change_pending {
        println!("          a change of its key was begun; what became of it is found out at its next use");
    }
    println!("state     {}: {}", shown.state, printable(&shown.message));
    Ok(())
}

impl AccountCommand {
    fn provider_argument(&self) -> &ProviderArgument {
        match self {
            Self::Register(whose)
            | Self::Rollover(whose)
            | Self::Show { whose, .. }
            | Self::Deactivate { whose, .. }
            | Self::Adopt { whose, .. } => whose,
        }
    }
}

/// The one provider that is meant; says so where there is none, or several.
async fn find_provider(app: &App, wanted: &str) -> anyhow::Result<Option<Provider>> {
    let mut matching = app.store.matching_providers(wanted).await?;
    let wanted = printable(wanted);
    if matching.len() > 1 {
        eprintln!("autocertd: {wanted} can be {} providers; name one by its id:", matching.len());
        for provider in matching {
            eprintln!("  {} {} at {}", provider.id, provider.name, provider.server);
        }
        return Ok(None);
    }
    let found = matching.pop();
    if found.is_none() {
        eprintln!("autocertd: no provider has the id, name or key {wanted}; GET /providers lists them all");
    }
    Ok(found)
}

/// Root reads the file, which may be for its eyes only, and hands it to the owner of the store.
fn read_imported_key(config: &Config, path: &Path) -> anyhow::Result<OwnerFlow<SecretString>> {
    if owner::is_owner_process() {
        let mut text = Zeroizing::new(String::new());
        std::io::stdin().lock().read_to_string(&mut text).context("what was handed over cannot be read")?;
        return Ok(OwnerFlow::Continue(SecretString::from(text.as_str())));
    }
    let text = files::read_text_at_once(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = SecretString::from(text);
    let handed = owner::run_as_owner(&config.state_directory(), text.expose_secret().as_bytes(), StdoutMode::Inherit)?;
    Ok(handed.map_or(OwnerFlow::Continue(text), |done| OwnerFlow::Done(done.outcome)))
}
