//! Addresses, networks, durations and labels: the parts that all messages share.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use ipnet::IpNet;
use linkerd2_proxy_api::net::{IpAddress, IpNetwork, TcpAddress};

use crate::{Error, Result};

pub(crate) fn decode_ip(wire: IpAddress) -> Result<IpAddr> {
    wire.try_into().map_err(|_| Error::missing("ip"))
}

pub(crate) fn decode_addr(wire: TcpAddress) -> Result<SocketAddr> {
    let ip = decode_ip(wire.ip.ok_or_else(|| Error::missing("ip"))?)?;
    Ok(SocketAddr::new(ip, decode_u16("port", wire.port)?))
}

pub(crate) fn encode_addr(addr: SocketAddr) -> TcpAddress {
    addr.into()
}

pub(crate) fn decode_net(wire: IpNetwork) -> Result<IpNet> {
    wire.try_into().map_err(|error| Error::invalid("", error))
}

pub(crate) fn decode_u16(field: &str, number: u32) -> Result<u16> {
    u16::try_from(number).map_err(|_| Error::invalid(field, format_args!("{number} is above 65535")))
}

/// Decodes a port, where 0 means none.
pub(crate) fn decode_port(field: &str, number: u32) -> Result<Option<NonZeroU16>> {
    decode_u16(field, number).map(NonZeroU16::new)
}

pub(crate) fn encode_port(port: Option<NonZeroU16>) -> u32 {
    port.map_or(0, |port| u32::from(port.get()))
}

pub(crate) fn decode_duration(wire: prost_types::Duration) -> Result<Duration> {
    wire.try_into().map_err(|_| Error::invalid("", "is negative"))
}

pub(crate) fn encode_duration(duration: Duration) -> prost_types::Duration {
    // A longer time than protobuf can express is as good as unlimited.
    duration.try_into().unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}

pub(crate) fn decode_labels(wire: HashMap<String, String>) -> BTreeMap<String, String> {
    wire.into_iter().collect()
}

pub(crate) fn encode_labels(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(crate) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
