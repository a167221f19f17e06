//! Any MQTT broker.
