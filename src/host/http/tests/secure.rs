//! TLS and CONNECT.
