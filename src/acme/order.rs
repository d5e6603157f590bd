//! Orders of an account: made, resumed by their URL, proven by DNS-01, finalized and downloaded, from whatever state the
//! CA has them in. Each order has a connection state of its own, so that one order's `Retry-After` holds up no other.

use instant_acme::{CertificateIdentifier, Identifier, OrderStatus};
use time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::acme::account::AccountCredentials;
use crate::acme::client::AcmeClient;
use crate::acme::directory;
use crate::acme::error::{AcmeError, AwaitedState};
use crate::acme::nonce::past_bad_nonces;
use crate::acme::problem::AcmeStep;
use crate::acme::transport::CaConnection;
use crate::domain::certificate::chain::CertificateChain;
use crate::domain::renewal::renewal_info::CertId;
use crate::domain::value::email::Email;
use crate::domain::value::name::DnsName;
use crate::domain::value::profile::Profile;
use crate::domain::value::server_url::{OrderUrl, ServerUrl};

mod authorizations;
mod dns_persist01;

pub use self::authorizations::{Authorization, AuthorizationState, ChallengeKind, Dns01};
pub use self::dns_persist01::DnsPersist01;

/// An account that can order.
#[derive(Clone)]
pub struct AcmeAccount {
    client: AcmeClient,
    server: ServerUrl,
    credentials: AccountCredentials,
}

/// What an order asks for.
#[derive(Clone, Copy, Debug)]
pub struct NewOrder<'a> {
    /// The names of the certificate.
    pub names: &'a [DnsName],
    /// The profile; none where the CA chooses.
    pub profile: Option<&'a Profile>,
    /// The certificate that it replaces (RFC 9773 section 5); told only to a CA that offers renewal information.
    pub replaces: Option<&'a CertId>,
}

/// Names, and nothing besides.
impl<'a, N: AsRef<[DnsName]> + ?Sized> From<&'a N> for NewOrder<'a> {
    fn from(names: &'a N) -> Self {
        Self { names: names.as_ref(), profile: None, replaces: None }
    }
}

/// An order at the CA.
pub struct Order {
    client: AcmeClient,
    connection: CaConnection,
    inner: instant_acme::Order,
    state: OrderState,
    /// Whether authorizations were read, which instant-acme then keeps as they were.
    authorizations_read: bool,
}

/// The state of an order, RFC 8555 section 7.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// Names are still to be validated.
    Pending,
    /// All names are validated; the CSR is awaited.
    Ready,
    /// The certificate is being issued.
    Processing,
    /// The certificate is issued.
    Valid,
    /// The order is beyond use.
    Invalid,
}

impl AcmeClient {
    /// The account with these credentials, once its CA's directory can be read.
    ///
    /// # Errors
    /// Where the directory cannot be read or the credentials are not usable.
    pub async fn account(&self, credentials: &AccountCredentials) -> Result<AcmeAccount, AcmeError> {
        // The settings may have changed since; the transport refuses plain HTTP where it is no longer allowed.
        let server = ServerUrl::from_stored(credentials.server())
            .map_err(|_| AcmeError::UnusableServer(credentials.server().to_owned()))?;
        let account = AcmeAccount { client: self.clone(), server, credentials: credentials.clone() };
        account.connect().await?;
        Ok(account)
    }
}

impl AcmeAccount {
    /// The account's URL.
    pub fn url(&self) -> &str {
        self.credentials.account_url()
    }

    /// The account's credentials.
    pub const fn credentials(&self) -> &AccountCredentials {
        &self.credentials
    }

    /// Tells the CA the contact of the account, in place of any that it had.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached. Told again it does no harm.
    pub async fn update_contact(&self, email: &Email) -> Result<(), AcmeError> {
        let (account, exchange) = self.connect().await?;
        let contact = email.contact_url();
        let told = past_bad_nonces!(
            account
                .update_contacts(&[&contact])
                .await
                .map_err(|error| AcmeError::from_instant_acme(AcmeStep::Contact, error))
        );
        match told {
            // The CA has taken it, and shows no account (RFC 8555 section 7.3.2 has it do so).
            Err(AcmeError::Unreadable { step: AcmeStep::Contact, .. })
                if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&exchange.body()).is_err() =>
            {
                Ok(())
            }
            told => told,
        }
    }

    /// The names of the profiles that the CA offers, in their order.
    ///
    /// # Errors
    /// Where its directory cannot be read.
    pub async fn profiles(&self) -> Result<Vec<String>, AcmeError> {
        self.client.profiles(&self.server).await
    }

    /// Makes an order. This is not idempotent: the URL is to be stored before anything else is done. A profile that the
    /// CA does not offer is refused before anything is sent.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached. Then an order may have been made all the same.
    pub async fn new_order<'a>(&self, order: impl Into<NewOrder<'a>>) -> Result<Order, AcmeError> {
        let NewOrder { names, profile, replaces } = order.into();
        let (account, exchange) = self.connect().await?;
        let identifiers: Vec<Identifier> = names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
        let mut request = instant_acme::NewOrder::new(&identifiers);
        if let Some(profile) = profile {
            let offered = self.profiles().await?;
            if !offered.iter().any(|name| name == profile.as_str()) {
                return Err(AcmeError::ProfileNotOffered { profile: profile.clone(), offered });
            }
            request = request.profile(profile.as_str());
        }
        if let Some(replaced) = replaces
            && exchange
                .load_directory()
                .await
                .is_ok_and(|document| directory::parse_renewal_info_url(&document).is_some())
        {
            request = request.replaces(CertificateIdentifier {
                authority_key_identifier: replaced.issuer_key().into(),
                serial: replaced.serial().into(),
            });
        }
        let made = past_bad_nonces!(
            account.new_order(&request).await.map_err(|error| AcmeError::from_instant_acme(AcmeStep::NewOrder, error))
        );
        match made {
            // The CA has made it, whatever else it said: instant-acme drops an order whose answer does not repeat what it
            // replaces, too.
            Err(AcmeError::Unreadable { .. }) if let Some(url) = exchange.location() => {
                self.load_order(&OrderUrl::from(url)).await
            }
            made => Ok(self.wrap_order(made?, exchange)),
        }
    }

    /// An order that was made before.
    ///
    /// # Errors
    /// Where the CA no longer has it, refuses or cannot be reached.
    pub async fn load_order(&self, url: &OrderUrl) -> Result<Order, AcmeError> {
        let (account, exchange) = self.connect().await?;
        let inner = past_bad_nonces!(
            account.order(url.to_string()).await.map_err(|error| AcmeError::from_instant_acme(AcmeStep::Order, error))
        )?;
        Ok(self.wrap_order(inner, exchange))
    }

    pub(super) async fn connect(&self) -> Result<(instant_acme::Account, CaConnection), AcmeError> {
        let exchange = self.client.connection(&self.server)?;
        let account = instant_acme::Account::builder_with_http(Box::new(exchange.clone()))
            .from_credentials(self.credentials.to_instant_acme()?)
            .await
            .map_err(|error| AcmeError::from_instant_acme(AcmeStep::Directory, error))?;
        Ok((account, exchange))
    }

    fn wrap_order(&self, mut inner: instant_acme::Order, exchange: CaConnection) -> Order {
        let state = inner.state().status.into();
        Order { client: self.client.clone(), connection: exchange, inner, state, authorizations_read: false }
    }
}

impl Order {
    /// The order's URL, by which it can be resumed.
    pub fn url(&self) -> OrderUrl {
        OrderUrl::from(self.inner.url().to_owned())
    }

    /// The state at the last look.
    pub const fn state(&self) -> OrderState {
        self.state
    }

    /// Whether the CA takes it as the replacement of a certificate.
    pub fn is_replacement(&mut self) -> bool {
        self.inner.state().replaces.is_some()
    }

    /// Waits until all names are validated.
    ///
    /// # Errors
    /// Where a validation failed, the CA takes longer than `poll_timeout`, or the wait is cancelled.
    pub async fn await_ready(&mut self, cancelled: &CancellationToken) -> Result<(), AcmeError> {
        cancelled.run_until_cancelled(self.poll(AwaitedState::Ready)).await.unwrap_or(Err(AcmeError::Cancelled))
    }

    /// Sends the CSR. An order that is finalized already is left as it is.
    ///
    /// # Errors
    /// Where the CA refuses or cannot be reached.
    pub async fn finalize(&mut self, csr_der: &[u8]) -> Result<(), AcmeError> {
        if matches!(self.state, OrderState::Processing | OrderState::Valid) {
            return Ok(());
        }
        if self.inner.state().finalize.is_empty() {
            let cause = "it is ready, but has no finalize URL".into();
            return Err(AcmeError::Unreadable { step: AcmeStep::Order, cause });
        }
        let sent = past_bad_nonces!(
            self.inner
                .finalize_csr(csr_der)
                .await
                .map_err(|error| AcmeError::from_instant_acme(AcmeStep::Finalize, error))
        );
        match sent {
            // The CA has taken the CSR; the order itself tells what became of it.
            Err(AcmeError::Unreadable { step: AcmeStep::Finalize, .. }) => self.refresh().await,
            sent => {
                sent?;
                self.update_state();
                Ok(())
            }
        }
    }

    /// Waits for the certificate of a finalized order, and downloads its chain as PEM.
    ///
    /// # Errors
    /// Where the order failed, the chain is not acceptable, the CA takes longer than `poll_timeout`, or the wait is cancelled.
    pub async fn await_certificate(&mut self, cancelled: &CancellationToken) -> Result<String, AcmeError> {
        let whole = async {
            self.poll(AwaitedState::Certificate).await?;
            past_bad_nonces!(
                self.inner
                    .certificate()
                    .await
                    .map_err(|error| AcmeError::from_instant_acme(AcmeStep::Certificate, error))
            )
        };
        let pem = cancelled.run_until_cancelled(whole).await.unwrap_or(Err(AcmeError::Cancelled))?;
        let chain = CertificateChain::parse(&pem.unwrap_or_default()).map_err(AcmeError::UnacceptableChain)?;
        Ok(chain.pem())
    }

    async fn poll(&mut self, waiting: AwaitedState) -> Result<(), AcmeError> {
        let settings = self.client.settings.clone();
        let deadline = Instant::now() + settings.poll_timeout.duration();
        let mut own_pause = settings.first_poll.duration();
        if self.state == OrderState::Pending && !self.authorizations_read {
            // Resumed: not every CA makes an order invalid with its authorization.
            self.load_authorizations().await?;
        }
        loop {
            match (self.state, waiting) {
                (OrderState::Valid, _) | (OrderState::Ready | OrderState::Processing, AwaitedState::Ready) => {
                    return Ok(());
                }
                (OrderState::Invalid, _) => return Err(AcmeError::OrderFailed(self.collect_problems().await)),
                (OrderState::Pending | OrderState::Ready | OrderState::Processing, _) => {}
            }
            let asked_for = self.connection.retry_after();
            let pause = asked_for.map_or(own_pause, |moment| {
                let span = (moment - self.client.clock().now()).clamp(MIN_PAUSE, MAX_PAUSE);
                span.unsigned_abs()
            });
            if Instant::now() + pause > deadline {
                // What single names lack is worth a look, but no other error.
                if let Err(error @ (AcmeError::OrderFailed(_) | AcmeError::AuthorizationLost { .. })) =
                    self.load_authorizations().await
                {
                    return Err(error);
                }
                let problems = self.collect_problems().await;
                // A hint on how to pace a poll is no ban: it must not put a renewal off for a day.
                return Err(AcmeError::PollTimedOut {
                    waiting,
                    not_before: asked_for.map(|moment| moment.min(self.client.clock().now() + MAX_PAUSE)),
                    problems,
                });
            }
            tokio::time::sleep(pause).await;
            own_pause = (own_pause * 2).min(settings.longest_poll.duration());
            self.refresh().await?;
        }
    }

    async fn refresh(&mut self) -> Result<(), AcmeError> {
        past_bad_nonces!(
            self.inner
                .refresh()
                .await
                .map(|_| ())
                .map_err(|error| AcmeError::from_instant_acme(AcmeStep::Order, error))
        )?;
        self.authorizations_read = false;
        self.update_state();
        Ok(())
    }

    fn update_state(&mut self) {
        self.state = self.inner.state().status.into();
    }
}

impl From<OrderStatus> for OrderState {
    fn from(status: OrderStatus) -> Self {
        match status {
            OrderStatus::Pending => Self::Pending,
            OrderStatus::Ready => Self::Ready,
            OrderStatus::Processing => Self::Processing,
            OrderStatus::Valid => Self::Valid,
            OrderStatus::Invalid => Self::Invalid,
        }
    }
}

/// A CA that asks for no pause is not asked in a tight loop.
const MIN_PAUSE: Duration = Duration::milliseconds(200);

/// A CA that asks for a long pause may be done earlier.
const MAX_PAUSE: Duration = Duration::minutes(1);
