//! Who is answered. Sans-IO.
//!
//! A page of the internet can have a browser in this network ask us: under a name of its own that it lets
//! point here (DNS rebinding), or as a foreign page. So the name in `Host` has to be one of ours, and what
//! changes something has to come from our own page and bring the token.

use crate::config::HttpConfig;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
    http::{request::Parts, uri::Authority},
};
use std::net::IpAddr;

/// Whether and to whom is answered.
#[derive(Debug)]
pub(super) struct Guard(HttpConfig);

/// Why somebody is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No name, or more than one, or none that can be read.
    NoHost,
    /// A name that is not ours.
    ForeignHost,
    /// A page of somebody else.
    ForeignPage,
    /// Nothing can be changed here.
    NoWrites,
    /// Whoever changes something has to say the token.
    NoToken,
}

/// What a browser may do with an answer.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// To every answer: nothing but our own files, in nobody's frame, and nothing is kept or told on.
pub(super) fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

impl Refusal {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::NoHost => StatusCode::BAD_REQUEST,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Self::ForeignPage => StatusCode::FORBIDDEN,
            Self::NoWrites => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoToken => StatusCode::UNAUTHORIZED,
        }
    }

    /// What to do, for people.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::NoHost => "the request names no host",
            Self::ForeignHost => {
                "this gateway does not answer to that name: use its address, or add the name to http.hosts"
            }
            Self::ForeignPage => "only the gateway's own page may change something",
            Self::NoWrites => "nothing can be changed here: http.token_file is not set",
            Self::NoToken => "the token of http.token_file is needed",
        }
    }
}

impl Guard {
    pub(super) const fn new(config: HttpConfig) -> Self {
        Self(config)
    }

    /// Whether a request that came in on this address is answered at all.
    pub(super) fn admit(&self, request: &Parts, local: IpAddr) -> Result<(), Refusal> {
        let named = only(&request.headers, header::HOST).ok_or(Refusal::NoHost)?;
        let named: Authority = named.parse().map_err(|_| Refusal::NoHost)?;
        // RFC 9112 §3.2.2: a target in absolute form has the last word; a browser sends the same name twice.
        for name in [Some(&named), request.uri.authority()].into_iter().flatten() {
            if !self.is_ours(name, local) {
                return Err(Refusal::ForeignHost);
            }
        }
        if request.method == Method::GET || request.method == Method::HEAD {
            return Ok(());
        }
        self.may_change(&request.headers, local)
    }

    /// Whether something may be changed on it.
    fn may_change(&self, headers: &HeaderMap, local: IpAddr) -> Result<(), Refusal> {
        let token = self.0.token.as_ref().ok_or(Refusal::NoWrites)?;
        // Tools send neither of these; a browser does, and no page can forge them.
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if site.is_some_and(|site| site != b"same-origin") || !self.is_own_origin(headers, local) {
            return Err(Refusal::ForeignPage);
        }
        let said = only(headers, header::AUTHORIZATION).and_then(|said| said.strip_prefix("Bearer "));
        if said.is_some_and(|said| token.is(said)) { Ok(()) } else { Err(Refusal::NoToken) }
    }

    fn is_own_origin(&self, headers: &HeaderMap, local: IpAddr) -> bool {
        if !headers.contains_key(header::ORIGIN) {
            return true;
        }
        // RFC 6454 §6.2: scheme and authority. Behind a proxy with TLS it is https.
        let origin = only(headers, header::ORIGIN).unwrap_or_default();
        let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let name = name.and_then(|name| name.parse::<Authority>().ok());
        // The port as well: another server of this machine is somebody else.
        let host = only(headers, header::HOST).and_then(|host| host.parse::<Authority>().ok());
        name.is_some_and(|name| self.is_ours(&name, local) && host.is_some_and(|host| host == name))
    }

    /// Of any port: who comes through a tunnel knows us by another one.
    fn is_ours(&self, name: &Authority, local: IpAddr) -> bool {
        if name.as_str().contains('@') {
            return false;
        }
        let host = name.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let ours = [local, self.0.listen.ip()];
            if ours.iter().any(|ours| ours.to_canonical() == address.to_canonical()) {
                return true;
            }
        }
        host == "localhost" || self.0.hosts.iter().any(|known| known == bare)
    }
}

/// The one header of this name, if it is text.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;
    use hyper::Request;

    const TOKEN: &str = "0123456789abcdef";

    fn guard(token: Option<&str>) -> Guard {
        Guard(HttpConfig {
            listen: "0.0.0.0:8080".parse().unwrap(),
            hosts: vec!["gateway.example.com".to_owned(), "192.0.2.9".to_owned()],
            metrics_per_endpoint: false,
            token: token.map(Secret::new),
        })
    }

    fn judged(guard: &Guard, method: Method, target: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let request =
            headers.iter().fold(Request::builder().method(method).uri(target), |request, (name, value)| {
                request.header(*name, *value)
            });
        guard.admit(&request.body(()).unwrap().into_parts().0, "10.0.0.5".parse().unwrap())
    }

    #[test]
    fn only_our_own_names_are_answered_to() {
        let check = |host: &str, expected: Result<(), Refusal>| {
            assert_eq!(judged(&guard(None), Method::GET, "/", &[("host", host)]), expected, "{host}");
        };
        for ours in [
            "localhost",
            "LocalHost:8080",
            "localhost.:9999",
            "10.0.0.5",
            "10.0.0.5:8080",
            "[::ffff:10.0.0.5]:8080",
            "0.0.0.0:8080",
            "gateway.example.com",
            "GATEWAY.example.com:443",
            "gateway.example.com.",
            "192.0.2.9:80",
        ] {
            check(ours, Ok(()));
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example",
            "gateway.example.com.evil.example",
            "10.0.0.6",
            "127.0.0.1",
            "[::1]",
            "localhost@evil.example",
            "evil.example@localhost",
            "10.0.0.5.evil.example:8080",
        ] {
            check(foreign, Err(Refusal::ForeignHost));
        }
        for broken in ["", "localhost:8080:1", "a b", "localhost/evil"] {
            check(broken, Err(Refusal::NoHost));
        }
        assert_eq!(judged(&guard(None), Method::GET, "/", &[]), Err(Refusal::NoHost));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(judged(&guard(None), Method::GET, "/", &twice), Err(Refusal::NoHost));
        let absolute = "http://evil.example/";
        let host = [("host", "localhost")];
        assert_eq!(judged(&guard(None), Method::GET, absolute, &host), Err(Refusal::ForeignHost));
    }

    #[test]
    fn something_is_changed_with_the_token_from_the_own_page_or_a_tool() {
        let bearer = format!("Bearer {TOKEN}");
        let check = |more: &[(&str, &str)], expected: Result<(), Refusal>| {
            let headers = [&[("host", "localhost:8080")][..], more].concat();
            assert_eq!(judged(&guard(Some(TOKEN)), Method::POST, "/", &headers), expected, "{more:?}");
            let refused = judged(&guard(None), Method::POST, "/", &headers);
            assert_eq!(refused, Err(Refusal::NoWrites), "{more:?}");
        };
        let token = ("authorization", bearer.as_str());
        check(&[token], Ok(()));
        check(&[token, ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")], Ok(()));
        check(&[], Err(Refusal::NoToken));
        check(&[("authorization", "Bearer 0123456789abcdeX")], Err(Refusal::NoToken));
        check(&[("authorization", TOKEN)], Err(Refusal::NoToken));
        check(&[token, token], Err(Refusal::NoToken));
        for foreign in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:8081"),
            ("origin", "null"),
            ("origin", "localhost:8080"),
        ] {
            check(&[token, foreign], Err(Refusal::ForeignPage));
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for refusal in
            [Refusal::NoHost, Refusal::ForeignHost, Refusal::ForeignPage, Refusal::NoWrites, Refusal::NoToken]
        {
            assert!(refusal.status().is_client_error() && refusal.words().len() > 20, "{refusal:?}");
        }
    }
}
