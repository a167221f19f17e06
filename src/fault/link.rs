//! 1xx: the way to the platform.

use super::{Code, Row};

pub(super) const TABLE: &[Row] = &[
    (
        Code::NameUnknown,
        "TG-101",
        "the name is misspelt, or this machine has no name server or no way to it",
        "compare uplink.urls with the platform's documentation; try `getent hosts NAME` here",
    ),
    (
        Code::Refused,
        "TG-102",
        "the machine is there, but no broker listens on this port: it is being restarted, or the port is another",
        "compare the port in uplink.urls (8883 is usual with TLS, 1883 without); ask the platform's operator",
    ),
    (
        Code::Unreachable,
        "TG-103",
        "this machine has no network, no route to that address, or a wrong gateway address",
        "look at the cable, the modem and `ip route`; with IPv6 only, try an address that has IPv4",
    ),
    (
        Code::Silent,
        "TG-104",
        "a firewall drops what is sent, the machine is off, or the link is too slow",
        "ask whether this port is open towards the platform; on a slow link raise uplink.confirm_timeout",
    ),
    (
        Code::Lost,
        "TG-105",
        "the broker was restarted, or something on the way (modem, firewall, NAT) gave the connection up",
        "nothing, if it comes back; if it happens at regular intervals, lower uplink.keep_alive",
    ),
    (
        Code::Closed,
        "TG-106",
        "before the login is answered: login, certificate or client id are not accepted; later: the broker was stopped, \
         or another gateway uses the same uplink.client_id",
        "look into the broker's log; see that no two gateways share a client id",
    ),
    (
        Code::NoConfirmation,
        "TG-107",
        "the connection is open but dead on the way (half-open), or the link is slower than what is due on it",
        "nothing, if it comes back; on a slow link raise uplink.confirm_timeout",
    ),
    (
        Code::NotMqtt,
        "TG-108",
        "the address is not that of an MQTT broker, or a device on the way changes what is sent",
        "compare host and port in uplink.urls with the platform's documentation",
    ),
    (
        Code::NoReplies,
        "TG-109",
        "the broker takes what is sent, but the platform behind it is down, or listens on other topics",
        "ask the platform's operator; compare [uplink.kaa] app_version and dcx with the platform",
    ),
    (
        Code::PayloadTooLarge,
        "TG-110",
        "the broker allows less in one publish than uplink.max_payload does, or forbids what is published",
        "ask the platform for its limit (set uplink.max_payload to it) and who may publish there; what is queued is kept",
    ),
    (
        Code::Expired,
        "TG-121",
        "it was not renewed in time, or the clock of this machine is ahead",
        "look at `date`; if it is right, the platform's operator has to renew the certificate",
    ),
    (
        Code::NotYetValid,
        "TG-122",
        "the clock of this machine is behind, as it is after a power cut without a battery",
        "set the clock, or let it be set over the network (`timedatectl`); the gateway goes on by itself then",
    ),
    (
        Code::WrongName,
        "TG-123",
        "uplink.urls names the platform by an address or by another name than its certificate does",
        "use the name in the certificate, or set it as server_name in [uplink.tls]",
    ),
    (
        Code::UnknownAuthority,
        "TG-124",
        "the platform has an authority of its own, or something on the way (a proxy) shows its own certificate",
        "get the authority's certificate from the platform and name it in [uplink.tls] ca_file",
    ),
    (
        Code::ClientCertificateMissing,
        "TG-125",
        "the platform lets nobody in without a certificate",
        "get one from the platform and set cert_file and key_file in [uplink.tls]",
    ),
    (
        Code::ClientCertificateRefused,
        "TG-126",
        "it is of another authority than the platform expects, expired, revoked, or of another gateway",
        "look at it with `openssl x509 -in FILE -noout -text`; get a new one from the platform",
    ),
    (
        Code::TlsTooOld,
        "TG-127",
        "the platform offers TLS 1.1 or older only; this gateway speaks TLS 1.2 and 1.3",
        "the platform's operator has to allow TLS 1.2; there is no switch for less here",
    ),
    (
        Code::HandshakeCut,
        "TG-128",
        "the port is not one with TLS, or a firewall ends TLS connections that it cannot look into",
        "compare the port in uplink.urls; ask whether TLS to it is allowed; on port 443 try alpn in [uplink.tls]",
    ),
    (
        Code::NotTls,
        "TG-129",
        "the port is not one with TLS (1883 usually is not, 8883 is), or a proxy answers in place of the platform",
        "compare the port in uplink.urls with the platform's documentation",
    ),
    (
        Code::CertificateUnusable,
        "TG-130",
        "it is broken, revoked, made for another purpose, or an authority's certificate used for a server",
        "the platform's operator has to replace it by a certificate for servers, signed by an authority",
    ),
    (
        Code::NoCommonAlpn,
        "TG-131",
        "the platform knows none of the protocols in [uplink.tls] alpn",
        "use the name the platform documents for this port, or remove alpn",
    ),
    (
        Code::TlsFiles,
        "TG-132",
        "the file is missing, unreadable for the gateway's user, not PEM, or key and certificate do not belong together",
        "put the file right; it is read again at the next connection, without a restart",
    ),
    (
        Code::NoAuthorities,
        "TG-133",
        "neither [uplink.tls] ca_file nor the system names an authority",
        "install the package ca-certificates, or set ca_file in [uplink.tls]",
    ),
    (
        Code::Handshake,
        "TG-134",
        "both sides have no cipher in common, or the platform wants a client certificate",
        "look into the platform's log; ask its operator which TLS settings it needs",
    ),
    (
        Code::LoginWrong,
        "TG-141",
        "user name or password are misspelt, or were changed on the platform",
        "put uplink.username and the file of uplink.password_file right; what is changed there is taken over \
         by itself",
    ),
    (
        Code::NotAuthorized,
        "TG-142",
        "the platform knows no such login or certificate, or has blocked it",
        "look at this gateway's credentials on the platform",
    ),
    (
        Code::ClientIdRefused,
        "TG-143",
        "the platform prescribes the client id, or allows fewer characters in it",
        "set uplink.client_id as the platform prescribes it",
    ),
    (
        Code::BrokerBusy,
        "TG-144",
        "the platform is starting, overloaded or under maintenance",
        "nothing; if it lasts, ask the platform's operator",
    ),
    (
        Code::MqttVersion,
        "TG-145",
        "the broker speaks another version of MQTT only; this gateway speaks 3.1.1",
        "the platform's operator has to allow MQTT 3.1.1",
    ),
    (
        Code::EverythingRefused,
        "TG-151",
        "the application's version is not the one on the platform, or all tokens were revoked",
        "compare [uplink.kaa] app_version and the tokens with the platform; what is queued is kept",
    ),
    (
        Code::SubscriptionRefused,
        "TG-152",
        "the broker's access rules do not let this gateway hear the replies for this endpoint",
        "the platform's operator has to allow it; what is queued for the endpoint is kept",
    ),
    (
        Code::AllSubscriptionsRefused,
        "TG-153",
        "the broker's access rules do not allow the filter that all endpoints share",
        "set [uplink.kaa] subscribe = \"per-endpoint\", or have the filter allowed; what is queued is kept",
    ),
    (
        Code::EndpointRefused,
        "TG-154",
        "its token was revoked or never existed there, or the platform has removed the endpoint",
        "compare the endpoint's token with the platform; what is queued for it is kept",
    ),
    (
        Code::SessionRefused,
        "TG-155",
        "the platform wants this gateway to connect anew",
        "nothing, if it comes back; else ask the platform's operator",
    ),
    (
        Code::DeadLetters,
        "TG-156",
        "the platform refuses what is in them, or one alone is larger than uplink.max_payload",
        "look at `tidegate queue --dead`: each has its reason; all others go up",
    ),
];
