//! What can go wrong between two servers, and what follows from it.

use std::fmt;

/// Whose trouble it is; the words of status, metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// No connection, or it broke: asked again, ever more slowly.
    Connection,
    /// Who we are was not accepted.
    Authentication,
    /// The server wants fewer requests: asked again when it says, or ever more slowly.
    RateLimit,
    /// The server is there and cannot (disk full, busy, internal error): asked again.
    Server,
    /// Something must be set up or changed by a person first.
    Setup,
    /// Our own disk or folder: asked again.
    Own,
    /// One document or row that will never be taken: a dead letter.
    Data,
}

impl Class {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Connection => "connection",
            Class::Authentication => "authentication",
            Class::RateLimit => "rate limit",
            Class::Server => "server",
            Class::Setup => "setup",
            Class::Own => "own disk",
            Class::Data => "data",
        }
    }
}

/// A request that did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub class: Class,
    /// What happened, in the server's words where it has any; never a secret.
    pub text: String,
    /// What to do about it, where a person can do something.
    pub fix: Option<String>,
    /// How long the server asked to be left alone.
    pub wait: Option<std::time::Duration>,
}

impl Trouble {
    #[must_use]
    pub fn new(class: Class, text: impl Into<String>) -> Self {
        Trouble { class, text: text.into(), fix: None, wait: None }
    }

    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    #[must_use]
    pub fn wait(mut self, wait: std::time::Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Whether asking again may help without anybody doing anything. What stops for a person is still tried now and then by
    /// `watch`, because people mend servers without telling us.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self.class, Class::Connection | Class::RateLimit | Class::Server | Class::Own)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Trouble {}
