//! `autocertd token`: who may speak to the API.

use clap::Subcommand;
use comfy_table::{Table, presets};
use secrecy::ExposeSecret;

use crate::app::{App, IfStoreMissing};
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::domain::value::id::TokenId;
use crate::domain::value::resource::{InvalidResourceName, ResourceName};
use crate::domain::value::token::{ApiToken, TokenScope};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it; it cannot be shown again
    Create {
        /// Its name, which becomes `createdBy` of what it makes
        name: ResourceName,
        /// It may look, but change nothing
        #[arg(long)]
        read_only: bool,
    },
    /// List the tokens, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token, by its id or its name; it is refused from the next request on
    Revoke {
        /// Its id or name
        token: String,
    },
}

pub(super) fn run(config: &Config, command: TokenCommand) -> anyhow::Result<CommandOutcome> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let place = match command {
            TokenCommand::Create { .. } => IfStoreMissing::Create,
            TokenCommand::List { .. } | TokenCommand::Revoke { .. } => IfStoreMissing::Fail,
        };
        let app = App::open(config, place).await?;
        match command {
            TokenCommand::Create { name, read_only } => create(&app, &name, read_only).await,
            TokenCommand::List { json } => list(&app, json).await,
            TokenCommand::Revoke { token } => revoke(&app, &token).await,
        }
    })
}

async fn create(app: &App, name: &ResourceName, read_only: bool) -> anyhow::Result<CommandOutcome> {
    let scope = if read_only { TokenScope::ReadOnly } else { TokenScope::Full };
    let (_, text) = app.store.create_token(name, scope).await?;
    println!("{}", text.expose_secret());
    Ok(CommandOutcome::Success)
}

async fn list(app: &App, json: bool) -> anyhow::Result<CommandOutcome> {
    let tokens = app.store.tokens().await?;
    if json {
        let rows: Vec<_> = tokens.iter().map(to_json).collect();
        crate::cli::output::print_json(&rows)?;
        return Ok(CommandOutcome::Success);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["ID", "NAME", "SCOPE", "CREATED"]);
    for token in tokens {
        let (id, created) = (token.id.to_string(), token.created.to_string());
        table.add_row([id.as_str(), token.name.as_str(), token.scope.as_str(), created.as_str()]);
    }
    println!("{table}");
    Ok(CommandOutcome::Success)
}

async fn revoke(app: &App, wanted: &str) -> anyhow::Result<CommandOutcome> {
    match find_tokens(app, wanted).await?.as_slice() {
        [] => {
            eprintln!("autocertd: no token has the id or name {wanted:?}; `autocertd token list` shows them all");
            Ok(CommandOutcome::UsageError)
        }
        [token] => {
            app.store.revoke_token(token.id).await?;
            println!("revoked {} ({})", token.name, token.id);
            Ok(CommandOutcome::Success)
        }
        several => {
            eprintln!("autocertd: {} tokens have the name {wanted:?}; revoke one by its id", several.len());
            Ok(CommandOutcome::UsageError)
        }
    }
}

/// The token of this id, else those of this name.
async fn find_tokens(app: &App, wanted: &str) -> anyhow::Result<Vec<ApiToken>> {
    if let Ok(id) = wanted.parse::<TokenId>()
        && let Some(token) = app.store.tokens().await?.into_iter().find(|token| token.id == id)
    {
        return Ok(vec![token]);
    }
    match wanted.parse() {
        Ok(name) => Ok(app.store.tokens_named(&name).await?),
        // No token can have what is no name.
        Err(InvalidResourceName) => Ok(Vec::new()),
    }
}

fn to_json(token: &ApiToken) -> serde_json::Value {
    serde_json::json!({
        "id": token.id.to_string(),
        "name": token.name.as_str(),
        "scope": token.scope.as_str(),
        "created": token.created.to_string(),
    })
}
