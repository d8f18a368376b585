//! Contexts of the `nats` tool: files that say where to connect and as whom.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ConnectError, ConnectOptions, Identity, Login};

/// What is used of a context; the tool leaves a text empty where there is nothing to say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    url: String,
    user: String,
    password: String,
    token: String,
    creds: String,
    nkey: String,
    cert: String,
    key: String,
    ca: String,
    tls_first: bool,
    inbox_prefix: String,
    // Where and who as well, in ways that are not supported here.
    nsc: String,
    user_jwt: String,
    socks_proxy: String,
    jetstream_domain: String,
    jetstream_api_prefix: String,
}

/// The options, and what they leave to the context.
pub(super) fn resolve(options: &ConnectOptions) -> Result<Login, ConnectError> {
    let mut login = match &options.context {
        Some(name) => read(name, options.contexts.as_deref())?,
        None => Login::default(),
    };
    if !options.urls.is_empty() {
        login.urls.clone_from(&options.urls);
    }
    if let Some(creds) = &options.creds {
        login.identity = Identity::Creds(creds.clone());
    } else if let Some(nkey) = &options.nkey {
        login.identity = Identity::Nkey(nkey.clone());
    }
    login.tls_ca = options.tls_ca.clone().or(login.tls_ca);
    login.tls_identity = options.tls_identity.clone().or(login.tls_identity);
    Ok(login)
}

fn read(name: &str, contexts: Option<&Path>) -> Result<Login, ConnectError> {
    let directory = contexts.map_or_else(directory, Path::to_owned);
    let file = directory.join(format!("{name}.json"));
    let failed = |reason: String| ConnectError::Context {
        name: name.to_owned(),
        file: file.clone(),
        reason,
    };
    if name.is_empty() || name.contains(['/', '\\']) || name.contains("..") {
        return Err(failed("this is not the name of a context".to_owned()));
    }
    let text = fs::read(&file).map_err(|error| failed(error.to_string()))?;
    let context: Context =
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    context.login().map_err(failed)
}

impl Context {
    fn login(self) -> Result<Login, String> {
        let unsupported = [
            ("nsc", &self.nsc),
            ("user_jwt", &self.user_jwt),
            ("socks_proxy", &self.socks_proxy),
            ("jetstream_domain", &self.jetstream_domain),
            ("jetstream_api_prefix", &self.jetstream_api_prefix),
        ];
        if let Some((key, _)) = unsupported.iter().find(|(_, value)| !value.is_empty()) {
            return Err(format!("its `{key}` is not supported: leave it empty"));
        }
        let identity = self.identity()?;
        let tls_identity = match (given(&self.cert), given(&self.key)) {
            (Some(certificate), Some(key)) => Some((home(certificate), home(key))),
            (None, None) => None,
            _ => return Err("`cert` and `key` belong together".to_owned()),
        };
        Ok(Login {
            urls: given(&self.url).map(str::to_owned).into_iter().collect(),
            identity,
            tls_ca: given(&self.ca).map(home),
            tls_identity,
            tls_first: self.tls_first,
            inbox_prefix: given(&self.inbox_prefix).map(str::to_owned),
        })
    }

    /// The tool takes a user without a password for a token.
    fn identity(&self) -> Result<Identity, String> {
        let text = |value: &String| given(value).map(str::to_owned);
        let identities = [
            given(&self.creds).map(|creds| Identity::Creds(home(creds))),
            given(&self.nkey).map(|nkey| Identity::Nkey(home(nkey))),
            text(&self.user).map(|user| match text(&self.password) {
                Some(password) => Identity::Password { user, password },
                None => Identity::Token(user),
            }),
            text(&self.token).map(Identity::Token),
        ];
        let mut given = identities.into_iter().flatten();
        let first = given.next().unwrap_or_default();
        match given.next() {
            Some(_) => {
                Err("it says more than one of `creds`, `nkey`, `user` and `token`".to_owned())
            }
            None => Ok(first),
        }
    }
}

fn given(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// A path in which `~` is the home directory.
fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), env::home_dir()) {
        (Some(below), Some(home)) => home.join(below),
        _ => PathBuf::from(path),
    }
}

/// Where the tool keeps its contexts.
fn directory() -> PathBuf {
    let configured = env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty());
    let config = configured.map_or_else(|| home("~/.config"), PathBuf::from);
    config.join("nats").join("context")
}
