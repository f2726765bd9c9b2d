//! The way in: who is asking, over what, and whether there is a place.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::Sink;
use pgwire::api::auth::sasl::SASLAuthStartupHandler;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramAuth, gen_salted_password};
use pgwire::api::auth::{AuthSource, LoginInfo, Password, ServerParameterProvider, StartupHandler};
use pgwire::api::{ClientInfo, METADATA_DATABASE, METADATA_USER, PgWireConnectionState, PidSecretKeyGenerator};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::cancel::{Registered, Registry, Running};
use super::errors::fatal;
use crate::functions::SERVER_VERSION;

/// The one user and the one database.
pub const USER: &str = "tapedeck";
pub const DATABASE: &str = "tapedeck";

/// What is known of the password: enough to check it, not to say it.
pub struct Secret {
    salt: Vec<u8>,
    salted: Vec<u8>,
    /// For users that do not exist: their exchange looks like any other.
    nobody: Vec<u8>,
}

impl Secret {
    /// # Errors
    /// The system has no randomness.
    pub fn of(password: &str) -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let (mut salt, mut nobody) = (vec![0; 16], vec![0; 32]);
        let filled = random.fill(&mut salt).and_then(|()| random.fill(&mut nobody));
        filled.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let salted = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        Ok(Secret { salt, salted, nobody })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait spells it: written out, the lifetimes bind elsewhere")]
#[async_trait]
impl AuthSource for Secret {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let known = login.user() == Some(USER);
        Ok(Password::new(Some(self.salt.clone()), if known { self.salted.clone() } else { self.nobody.clone() }))
    }
}

/// What is said of the server at the start.
#[derive(Debug)]
pub(super) struct Parameters;

impl ServerParameterProvider for Parameters {
    fn server_parameters<C: ClientInfo>(&self, client: &C) -> Option<HashMap<String, String>> {
        let application = client.metadata().get("application_name").cloned().unwrap_or_default();
        let parameters = [
            ("server_version", SERVER_VERSION),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("integer_datetimes", "on"),
            ("in_hot_standby", "off"),
            ("is_superuser", "off"),
            ("default_transaction_read_only", "on"),
            ("session_authorization", USER),
            ("search_path", "public"),
            ("TimeZone", "UTC"),
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("standard_conforming_strings", "on"),
            ("application_name", &application),
        ];
        Some(parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

/// The start of one connection.
pub(super) struct Startup {
    inner: SASLAuthStartupHandler<Parameters>,
    registry: Arc<Registry>,
    running: Arc<Running>,
    registered: Mutex<Option<Registered>>,
    /// Whether the password was right. Nothing is answered before.
    pub(super) passed: Arc<AtomicBool>,
    tls_required: bool,
    full: bool,
}

impl fmt::Debug for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Startup").field("passed", &self.passed).finish_non_exhaustive()
    }
}

/// What a connection finds: the same for all of one server, but for whether there is a place.
pub(super) struct Door {
    pub(super) secret: Arc<Secret>,
    pub(super) numbers: Arc<dyn PidSecretKeyGenerator>,
    pub(super) registry: Arc<Registry>,
    pub(super) tls_required: bool,
    pub(super) certificate: Option<Vec<u8>>,
}

impl Door {
    pub(super) fn enter(&self, running: Arc<Running>, full: bool) -> Startup {
        let mut scram = ScramAuth::new(Arc::clone(&self.secret) as Arc<dyn AuthSource>);
        if let Some(certificate) = &self.certificate {
            // Channel binding is offered where the certificate's signature is one it knows.
            if let Err(error) = scram.configure_certificate(certificate) {
                tracing::debug!(error = %error, "no channel binding with this certificate");
            }
        }
        let inner = SASLAuthStartupHandler::new(Arc::new(Parameters))
            .with_scram(scram)
            .with_pid_secret_key_generator(Arc::clone(&self.numbers));
        Startup {
            inner,
            registry: Arc::clone(&self.registry),
            running,
            registered: Mutex::new(None),
            passed: Arc::new(AtomicBool::new(false)),
            tls_required: self.tls_required,
            full,
        }
    }
}

impl Startup {
    fn refuse<C: ClientInfo>(&self, client: &C, startup: &HashMap<String, String>) -> Option<PgWireError> {
        if self.full {
            return Some(fatal("53300", "sorry, too many clients already"));
        }
        if self.tls_required && !client.is_secure() {
            return Some(fatal("28000", "this server takes encrypted connections only: use sslmode=require"));
        }
        let user = startup.get(METADATA_USER).map(String::as_str);
        let database = startup.get(METADATA_DATABASE).map(String::as_str).or(user);
        match database {
            Some(DATABASE | crate::engine::CATALOG) | None => None,
            Some(other) => {
                Some(fatal("3D000", format!("database \"{other}\" does not exist; there is \"{DATABASE}\"")))
            }
        }
    }
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let PgWireFrontendMessage::Startup(startup) = &message {
            let parameters = startup.parameters.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            if let Some(refused) = self.refuse(client, &parameters) {
                return Err(refused);
            }
        }
        // Any error of the start ends the connection: after a lesser one the library would go on to queries.
        self.inner.on_startup(client, message).await.map_err(|error| {
            let info = ErrorInfo::from(error);
            fatal(&info.code, info.message)
        })?;
        if matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            let (pid, secret) = client.pid_and_secret_key();
            let registered = self.registry.register(pid, &secret, Arc::clone(&self.running));
            *self.registered.lock().unwrap_or_else(PoisonError::into_inner) = Some(registered);
            self.passed.store(true, Ordering::Release);
        }
        Ok(())
    }
}
