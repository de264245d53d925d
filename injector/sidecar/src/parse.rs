//! Values of the chart, parsed; an error names the value.

use ipnet::IpNet;
use proxy_model::{
    policy::DefaultPolicy,
    ports::{InvalidPorts, PortSet},
};

use crate::{Error, spec::EnvDuration};

pub(crate) fn ports(field: &'static str, text: &str) -> Result<PortSet, Error> {
    text.parse()
        .map_err(|InvalidPorts(item)| Error::value(field, format_args!("{item:?} is not a port or a range of ports")))
}

pub(crate) fn policy(field: &'static str, text: &str) -> Result<DefaultPolicy, Error> {
    text.parse().map_err(|error| Error::value(field, error))
}

pub(crate) fn networks(field: &'static str, text: &str) -> Result<Vec<IpNet>, Error> {
    let invalid = || {
        Error::value(
            field,
            format_args!("{text:?} is not a list of networks such as 10.0.0.0/8"),
        )
    };
    network_list(text).ok_or_else(invalid)
}

pub(crate) fn network_list(text: &str) -> Option<Vec<IpNet>> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| item.parse().ok()).collect()
}

pub(crate) fn duration(field: &'static str, text: &str) -> Result<EnvDuration, Error> {
    let invalid = || {
        Error::value(
            field,
            format_args!("{text:?} is not a duration such as 100ms, 3s, 5m or 1h"),
        )
    };
    EnvDuration::parse(text).ok_or_else(invalid)
}
