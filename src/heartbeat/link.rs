//! One connection to a broker, in MQTT 3.1.1 or 5. It is never connected anew: who lost one opens another.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rumqttc_v4 as v4;
use rumqttc_v5 as v5;
use tokio::time::{Instant, timeout_at};

use super::config::{Protocol, Target};
use super::outbox::Message;
use super::wire::{self, Wire};

/// What connecting may take, from the first packet to the broker's word.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Messages handed over and not yet written. What is beyond waits in the outbox, where newer ones replace it.
const ON_THEIR_WAY: usize = 4;
/// A broker has no reason to send us anything of length.
const LONGEST_PACKET_IN: u32 = 64 << 10;
/// A heartbeat of many sources is a few KiB.
const LONGEST_PACKET_OUT: usize = 1 << 20;

/// A connection that the broker has accepted.
pub(super) struct Link {
    client: Client,
    driver: Driver,
}

/// Where messages go in.
pub(super) enum Client {
    V4(v4::AsyncClient),
    V5(v5::AsyncClient),
}

/// What reads and writes; nothing happens unless it runs.
pub(super) enum Driver {
    V4(Box<v4::EventLoop>),
    V5(Box<v5::EventLoop>),
}

impl Link {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The broker cannot be reached, or does not want us.
    pub(super) async fn open(target: &Target, client_id: &str, will: Option<Message>) -> anyhow::Result<Link> {
        let opening = async {
            let wire = wire::connect(target).await?;
            let mut link = Link::over(wire, target, client_id, will);
            link.driver.next().await.with_context(|| format!("logging in to {}", target.shown()))?;
            Ok(link)
        };
        match tokio::time::timeout(CONNECT_WITHIN, opening).await {
            Ok(opened) => opened,
            Err(_) => bail!("connecting to {}: no answer in {} s", target.shown(), CONNECT_WITHIN.as_secs()),
        }
    }

    fn over(wire: Wire, target: &Target, client_id: &str, will: Option<Message>) -> Link {
        let broker = (target.host.clone(), target.port);
        let keepalive = u16::try_from(target.keepalive.as_secs()).unwrap_or(u16::MAX);
        match target.protocol {
            Protocol::V4 => {
                let mut options = v4::MqttOptions::new(client_id, broker);
                options.set_keep_alive(keepalive).set_request_channel_capacity(ON_THEIR_WAY);
                options.set_max_packet_size(LONGEST_PACKET_IN as usize, LONGEST_PACKET_OUT);
                options.set_socket_connector(once(wire));
                match (&target.username, &target.password) {
                    (Some(name), Some(password)) => {
                        options.set_credentials(name, password.expose().as_bytes().to_vec());
                    }
                    (Some(name), None) => drop(options.set_username(name)),
                    // The section was refused.
                    (None, _) => {}
                }
                if let Some(will) = will {
                    options.set_last_will(v4::LastWill::new(will.topic, will.payload, v4::QoS::AtLeastOnce, true));
                }
                let (client, driver) = v4::AsyncClient::builder(options).build();
                Link { client: Client::V4(client), driver: Driver::V4(Box::new(driver)) }
            }
            Protocol::V5 => {
                let mut options = v5::MqttOptions::new(client_id, broker);
                options.set_keep_alive(keepalive);
                options.set_request_channel_capacity(ON_THEIR_WAY).set_connect_timeout(CONNECT_WITHIN);
                options.set_max_packet_size(Some(LONGEST_PACKET_IN));
                options.set_socket_connector(once(wire));
                match (&target.username, &target.password) {
                    (Some(name), Some(password)) => {
                        options.set_credentials(name, password.expose().as_bytes().to_vec());
                    }
                    (Some(name), None) => drop(options.set_username(name)),
                    (None, Some(password)) => drop(options.set_password(password.expose().as_bytes().to_vec())),
                    (None, None) => {}
                }
                if let Some(will) = will {
                    let will = v5::LastWill::new(will.topic, will.payload, v5::QoS::AtLeastOnce, true, None);
                    options.set_last_will(will);
                }
                let (client, driver) = v5::AsyncClient::builder(options).build();
                Link { client: Client::V5(client), driver: Driver::V5(Box::new(driver)) }
            }
        }
    }

    pub(super) fn split(self) -> (Client, Driver) {
        (self.client, self.driver)
    }

    /// Sends one message, waits until the broker has it, and leaves.
    ///
    /// # Errors
    /// The broker refuses it, as far as its version of the protocol has words for that, or is gone.
    pub(super) async fn try_out(self, message: Message) -> anyhow::Result<()> {
        let (client, driver) = self.split();
        let sent = async {
            match &client {
                Client::V4(client) => {
                    let how = v4::PublishOptions::at_least_once().retain(message.retained);
                    let notice = client.publish_tracked(message.topic, message.payload, how).await?;
                    notice.wait_completion_async().await.context("the broker does not take it")?;
                }
                Client::V5(client) => {
                    let how = v5::PublishOptions::at_least_once().retain(message.retained);
                    let notice = client.publish_tracked(message.topic, message.payload, how).await?;
                    notice.wait_completion_async().await.context("the broker does not take it")?;
                }
            }
            client.leave(CONNECT_WITHIN).await;
            // The driver's end ends the whole.
            std::future::pending::<anyhow::Result<()>>().await
        };
        let (driving, sent) = (driver.run(CONNECT_WITHIN), std::pin::pin!(sent));
        let both = async {
            tokio::select! {
                biased;
                sent = sent => sent,
                ended = driving => if ended.is::<Left>() { Ok(()) } else { Err(ended) },
            }
        };
        tokio::time::timeout(CONNECT_WITHIN, both).await.context("sending a message: no answer")?
    }
}

/// The connection ended because we left.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed")]
pub(super) struct Left;

impl Client {
    /// Takes a message if there is room.
    pub(super) fn take(&self, message: &Message) -> bool {
        let (topic, payload) = (message.topic.clone(), message.payload.clone());
        match self {
            Client::V4(client) => {
                let qos = if message.acknowledged { v4::QoS::AtLeastOnce } else { v4::QoS::AtMostOnce };
                let how = v4::PublishOptions::new(qos).retain(message.retained);
                // An invalid topic would never be taken: it goes nowhere, and blocks nobody.
                !matches!(client.try_publish(topic, payload, how), Err(v4::ClientError::RequestChannelFull(_)))
            }
            Client::V5(client) => {
                let qos = if message.acknowledged { v5::QoS::AtLeastOnce } else { v5::QoS::AtMostOnce };
                let how = v5::PublishOptions::new(qos).retain(message.retained);
                !matches!(client.try_publish(topic, payload, how), Err(v5::ClientError::RequestChannelFull(_)))
            }
        }
    }

    /// Says good-bye once everything is sent and acknowledged, so that the broker does not say the will.
    pub(super) async fn leave(&self, within: Duration) {
        // An error means that the connection is gone already.
        match self {
            Client::V4(client) => drop(client.disconnect_with_timeout(within).await),
            Client::V5(client) => drop(client.disconnect_with_timeout(within).await),
        }
    }
}

impl Driver {
    /// Reads and writes until the connection ends, or the broker has not said a word for that long.
    pub(super) async fn run(mut self, silence: Duration) -> anyhow::Error {
        let mut deadline = Instant::now() + silence;
        loop {
            match timeout_at(deadline, self.next()).await {
                Ok(Ok(true)) => deadline = Instant::now() + silence,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => return error,
                Err(_) => return anyhow!("the broker has been silent for {} s", silence.as_secs()),
            }
        }
    }

    /// The next thing that happens, and whether it came from the broker; the first is its word on who we are.
    async fn next(&mut self) -> anyhow::Result<bool> {
        match self {
            Driver::V4(driver) => {
                driver.poll().await.map(|one| matches!(one, v4::Event::Incoming(_))).map_err(|error| match error {
                    v4::ConnectionError::ConnectionRefused(code) => refused(&code),
                    v4::ConnectionError::RequestsDone => Left.into(),
                    other => other.into(),
                })
            }
            Driver::V5(driver) => {
                driver.poll().await.map(|one| matches!(one, v5::Event::Incoming(_))).map_err(|error| match error {
                    v5::ConnectionError::ConnectionRefused(code) => refused(&code),
                    v5::ConnectionError::RequestsDone => Left.into(),
                    other => other.into(),
                })
            }
        }
    }
}

/// A refusal in words; both versions give the codes the same names.
fn refused(code: &dyn std::fmt::Debug) -> anyhow::Error {
    let code = format!("{code:?}");
    match code.as_str() {
        "BadUserNamePassword" | "NotAuthorized" => {
            anyhow!("the broker refuses the user name or the password ({code}): see `username`, `password_file`")
        }
        "BadClientId" | "ClientIdentifierNotValid" => {
            anyhow!("the broker refuses the client's name ({code}): set `client_id`")
        }
        "RefusedProtocolVersion" | "UnsupportedProtocolVersion" => {
            anyhow!("the broker does not speak this version of MQTT ({code}): set `protocol`")
        }
        _ => anyhow!("the broker refuses the connection ({code})"),
    }
}

/// Hands over a connection that is there already; a second time there is none, and the session ends.
fn once(
    wire: Wire,
) -> impl Fn(String, v4::NetworkOptions) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>
+ Send
+ Sync
+ 'static {
    let wire = Arc::new(Mutex::new(Some(wire)));
    move |_, _| {
        let taken = wire.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move { taken.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted)) })
    }
}
