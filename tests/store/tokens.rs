//! API tokens.

use autocertd::domain::value::token::TokenScope;
use secrecy::ExposeSecret;
use time::Duration;

use crate::fixture::{Fixture, name, on_both};

on_both! {
    a_token_opens_the_door_until_it_is_revoked
    what_is_not_quite_a_token_opens_nothing
    the_secret_itself_is_not_stored
}

async fn a_token_opens_the_door_until_it_is_revoked(house: Fixture) {
    let (token, text) = house.store.create_token(&name("ci"), TokenScope::ReadOnly).await.unwrap();
    house.turn(Duration::seconds(1));
    let (other, other_text) = house.store.create_token(&name("terraform"), TokenScope::Full).await.unwrap();
    assert!(text.expose_secret().starts_with(&format!("autocertd_{}_", token.id.uuid().simple())));
    assert_eq!(house.store.authenticate(text.expose_secret()).await.unwrap(), Some(token.clone()));
    assert_eq!(house.store.authenticate(other_text.expose_secret()).await.unwrap(), Some(other.clone()));
    assert_eq!(house.store.tokens().await.unwrap(), [token.clone(), other.clone()]);
    assert_eq!(house.store.tokens_named(&name("ci")).await.unwrap(), std::slice::from_ref(&token));
    assert_eq!(token.scope, TokenScope::ReadOnly);

    assert!(house.store.revoke_token(token.id).await.unwrap());
    assert!(!house.store.revoke_token(token.id).await.unwrap());
    assert_eq!(house.store.authenticate(text.expose_secret()).await.unwrap(), None);
    assert_eq!(house.store.tokens().await.unwrap(), [other]);
}

async fn what_is_not_quite_a_token_opens_nothing(house: Fixture) {
    let (token, text) = house.store.create_token(&name("ci"), TokenScope::Full).await.unwrap();
    let (_, other) = house.store.create_token(&name("other"), TokenScope::Full).await.unwrap();
    let text = text.expose_secret();
    let id = format!("autocertd_{}_", token.id.uuid().simple());
    for wrong in [
        String::new(),
        "autocertd_".to_owned(),
        id.clone(),
        text[..text.len() - 1].to_owned(),
        format!("{text}x"),
        text.replacen("autocertd_", "", 1),
        format!("{id}{}", &other.expose_secret()[id.len()..]),
        format!("autocertd_{}_{}", uuid::Uuid::nil().simple(), &text[id.len()..]),
    ] {
        assert_eq!(house.store.authenticate(&wrong).await.unwrap(), None, "{wrong} opened the door");
    }
}

async fn the_secret_itself_is_not_stored(house: Fixture) {
    let (_, text) = house.store.create_token(&name("ci"), TokenScope::Full).await.unwrap();
    let secret = text.expose_secret().splitn(3, '_').nth(2).unwrap();
    let row = sqlx::query("SELECT secret_hash FROM tokens").fetch_one(&house.raw).await.unwrap();
    let stored: Vec<u8> = sqlx::Row::get(&row, 0);
    assert_eq!(stored.len(), 32);
    assert!(!stored.windows(8).any(|bytes| secret.as_bytes().windows(8).any(|part| part == bytes)));
}
