//! Settings about who may connect and send: what they come to, and where they
//! contradict each other.

use super::problem::Problem;
use super::table::Config;
use super::value::{AuthMode, Secret};
use crate::http::auth::{
    API_KEYS_MAX, ApiKey, AuthOptions, Guards, HookOptions, JwtAlgorithm, check_public_keys,
};

impl Config {
    /// How users and senders are told apart.
    #[must_use]
    pub fn auth_options(&self) -> AuthOptions {
        if self.auth == AuthMode::None {
            return AuthOptions::None;
        }
        let exposed = |secret: &Secret| secret.expose().to_owned();
        AuthOptions::Guarded(Box::new(Guards {
            secrets: [&self.jwt_secret, &self.jwt_secret_previous]
                .into_iter()
                .flatten()
                .map(exposed)
                .collect(),
            public_keys: self.jwt_public_key.as_ref().map(exposed),
            algorithm: self.algorithm(),
            jwks_url: self.jwks_url.as_ref().and_then(|url| url.parse().ok()),
            jwks_refresh: self.jwks_refresh,
            audiences: self.jwt_audience.clone(),
            issuers: self.jwt_issuer.clone(),
            leeway: self.jwt_leeway,
            user_claim: self.jwt_user_claim.clone(),
            hook: self.hook(),
            api_keys: self.api_keys(),
            service_tokens: self.service_tokens,
        }))
    }

    fn hook(&self) -> Option<HookOptions> {
        Some(HookOptions {
            url: self.auth_hook_url.as_ref()?.parse().ok()?,
            headers: self.auth_hook_headers.clone(),
            within: self.auth_hook_timeout,
            keep: self.auth_hook_cache,
        })
    }

    /// The key that is known itself, which allows everything, and those known by
    /// their hashes.
    fn api_keys(&self) -> Vec<ApiKey> {
        let known = self.api_key.as_ref().map(|key| ApiKey::known("default", key.expose()));
        known.into_iter().chain(self.api_keys.iter().filter_map(|entry| entry.parse().ok())).collect()
    }

    fn algorithm(&self) -> Option<JwtAlgorithm> {
        self.jwt_algorithm.as_ref().and_then(|name| name.parse().ok())
    }

    /// Whether a setting was given, be it refused: then it has a line already.
    fn is_given(&self, key: &str) -> bool {
        self.origin(key) != super::layers::Origin::Default
    }

    pub(super) fn about_auth(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.auth == AuthMode::None {
            if let Some(admin) = self.admin_listen.filter(|admin| !admin.ip().is_loopback()) {
                let text = "is open to others, and with auth none anyone who reaches it does anything: set --auth jwt, \
                            or --admin-listen 127.0.0.1:9090";
                problems.push(self.about("admin_listen", admin, text));
            }
            if !self.listen.ip().is_loopback() {
                let text = format!(
                    "is open to others, and with auth none anyone who reaches it is any user and sends anything: \
                     set --auth jwt with POSTRIDER_JWT_SECRET and POSTRIDER_API_KEY, or --listen 127.0.0.1:{}",
                    self.listen.port()
                );
                problems.push(self.about("listen", self.listen, text));
            }
            return problems;
        }
        if !["jwt_secret", "jwt_public_key", "jwks_url", "auth_hook_url"].iter().any(|key| self.is_given(key))
        {
            let text = "needs what users' tokens are signed with: set POSTRIDER_JWT_SECRET (at least 32 bytes) or \
                        POSTRIDER_JWT_SECRET_FILE=/run/secrets/jwt_secret, or --jwt-public-key-file public.pem, or \
                        --jwks-url https://issuer.example.com/.well-known/jwks.json, or --auth-hook-url to ask your application";
            problems.push(self.about("auth", "jwt", text));
        }
        if !["api_key", "api_keys", "service_tokens"].iter().any(|key| self.is_given(key)) {
            let text = "needs a key that senders present: have 'postrider key new' make one and set \
                        POSTRIDER_API_KEYS to its entry, or POSTRIDER_API_KEY (at least 16 characters) or \
                        POSTRIDER_API_KEY_FILE=/run/secrets/api_key to a key that allows everything";
            problems.push(self.about("auth", "jwt", text));
        }
        if self.api_keys().len() > API_KEYS_MAX {
            let text =
                format!("must list at most {API_KEYS_MAX} keys: each request is compared with all of them");
            problems.push(self.about("api_keys", format!("{} keys", self.api_keys.len()), text));
        }
        problems.extend(self.about_algorithm());
        problems
    }

    /// Whether the algorithm that was asked for is one of a key that is there.
    fn about_algorithm(&self) -> Option<Problem> {
        let algorithm = self.algorithm()?;
        let name = self.jwt_algorithm.clone().unwrap_or_default();
        if algorithm.is_symmetric() {
            let text = "is for a secret: set POSTRIDER_JWT_SECRET, or leave it out";
            return (!self.is_given("jwt_secret")).then(|| self.about("jwt_algorithm", name, text));
        }
        let Some(keys) = &self.jwt_public_key else {
            let text = "is for public keys: set --jwt-public-key-file, or leave it out (keys at --jwks-url say theirs \
                        themselves)";
            return (!self.is_given("jwt_public_key")).then(|| self.about("jwt_algorithm", name, text));
        };
        let text = check_public_keys(keys.expose(), Some(algorithm)).err()?;
        Some(self.about("jwt_public_key", super::REDACTED, text))
    }
}
