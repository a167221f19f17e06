//! 3xx: the configuration.

use super::{Code, Row};

pub(super) const TABLE: &[Row] = &[
    (
        Code::FileUnreadable,
        "TG-301",
        "the path is misspelt, or this user may not read it",
        "compare the path with `ls -l`; the packaged file is /etc/tidegate/tidegate.toml",
    ),
    (
        Code::NotToml,
        "TG-302",
        "a quote, bracket or equals sign is missing or too many, often a line above",
        "look at the line that is named and the one above; config.example.toml shows every form",
    ),
    (
        Code::UnknownKey,
        "TG-303",
        "the key is misspelt, stands in another table, or belongs to a newer version",
        "compare it with config.example.toml",
    ),
    (
        Code::TokenTwice,
        "TG-304",
        "an endpoint was copied and its token was not changed",
        "give each endpoint the token the platform issued for it",
    ),
    (
        Code::CredentialFile,
        "TG-305",
        "it was not created, lies elsewhere, or belongs to another user",
        "create the file with nothing but the credential in it, readable by the gateway's user (mode 0640)",
    ),
    (
        Code::NamedFile,
        "TG-306",
        "it was not created, lies elsewhere, or belongs to another user",
        "name a file that the gateway's user may read",
    ),
    (
        Code::UnusableFile,
        "TG-307",
        "it is another file than was meant, was cut short in copying, or key and certificate were mixed up",
        "put the PEM file there that begins with -----BEGIN; try `openssl x509 -in FILE -noout -text`",
    ),
    (
        Code::CertificateAge,
        "TG-308",
        "it was not renewed in time, or is about to end",
        "get a new one from the platform; it is used from the next connection on, without a restart",
    ),
    (
        Code::FileRefused,
        "TG-309",
        "the file was changed and is not good, or only half of it was written yet; what ran before goes on",
        "see what is wrong with `tidegate check FILE` and put it right: it is taken by itself then",
    ),
];
