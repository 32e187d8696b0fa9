//! Arguments of the commands that are not the agent: they look at one, at a ring, or show how it works.

// The derive macro writes `vec!` and `format!` without their path.
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use argh::FromArgs;
use std::prelude::v1::*;

/// print what a running agent is doing, as plain text
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help", "help"))]
pub struct Status {
    /// address of the agent's status port (default: 127.0.0.1:9099)
    #[argh(option, default = "String::from(\"127.0.0.1:9099\")")]
    pub address: String,
}

/// print geometry, head and tail, backlog by target, time span and losses
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "info", help_triggers("-h", "--help", "help"))]
pub struct RingInfo {
    /// ring file, block device or image
    #[argh(positional)]
    pub path: String,
}

/// read the whole ring; one line per fault; exit code 3 when there are any
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "verify", help_triggers("-h", "--help", "help"))]
pub struct RingVerify {
    /// ring file, block device or image
    #[argh(positional)]
    pub path: String,
}

/// write the samples of a ring as OpenMetrics text to standard output, for 'promtool tsdb create-blocks-from openmetrics';
/// or, with --to, send them to a receiver; the ring is only read; external labels and write_relabel_configs are not applied; staleness markers have no form there and are counted
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "export", help_triggers("-h", "--help", "help"))]
pub struct RingExport {
    /// ring file, block device or image
    #[argh(positional)]
    pub path: String,

    /// first time, RFC 3339 (2026-11-22T11:00:00Z) or seconds since the Unix epoch
    #[argh(option)]
    pub from: Option<String>,

    /// time to stop before, in the same forms
    #[argh(option)]
    pub until: Option<String>,

    /// send them to this receiver by remote write instead: http:// or https:// URL; staleness markers included
    #[argh(option)]
    pub to: Option<String>,

    /// with --to: a header, as 'X-Scope-OrgID: plant'; may be repeated
    #[argh(option)]
    pub header: Vec<String>,

    /// with --to: user of basic authentication
    #[argh(option)]
    pub user: Option<String>,

    /// with --to: file with the password
    #[argh(option)]
    pub password_file: Option<String>,

    /// with --to: file with a bearer token
    #[argh(option)]
    pub bearer_token_file: Option<String>,

    /// with --to: certificates to trust, PEM (default: the system's)
    #[argh(option)]
    pub ca_file: Option<String>,

    /// with --to: most samples in a request (default: 2000)
    #[argh(option, default = "2000")]
    pub max_samples: usize,

    /// only targets with this label: job=node, job!=node, instance=~'10[.].*', instance!~'...'; may be repeated, all must hold
    #[argh(option)]
    pub target: Vec<String>,

    /// only what some remote that holds the tail has not acknowledged
    #[argh(switch)]
    pub remote_unacknowledged_only: bool,
}

/// see it work: a loopback target and receiver in this process, the uplink cut and restored; under a minute
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "demo", help_triggers("-h", "--help", "help"))]
pub struct Demo {
    /// keep the ring file after the demo, at this path (default: a temporary file, removed)
    #[argh(option)]
    pub ring: Option<String>,
}
