//! Encodes tables as nftables netlink messages.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook as HookAttribute,
    Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register,
    RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetElementMessage, SetFlags,
    SetMessage, TableAttribute, TableMessage, Verdict, VerdictAttribute,
};

use super::{AddressSet, Chain, Expr, Hook, Kind, Rule, Table};

/// `NFT_CHAIN` policy "accept".
const ACCEPT: u32 = 1;
/// nftables' number of the type `ipv4_addr`, for other tools.
const TYPE_IPV4_ADDR: u32 = 7;
/// Bases of `payload`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// The address family numbers that `meta nfproto` and `nat` use.
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
/// Bytes of an interface name in a register.
const IFNAMSIZ: usize = 16;

type Element = ListAttribute<ExpressionAttribute>;

/// Messages that replace a table. The first creates it, so that deleting it never fails.
pub(super) fn replace(table: &Table) -> Vec<NfTablesMessage> {
    let mut messages = remove(&table.name);
    messages.push(new_table(&table.name));
    for (id, set) in table.sets.iter().enumerate() {
        messages.push(new_set(&table.name, id, set));
        if !set.addresses.is_empty() {
            messages.push(elements(&table.name, id, set));
        }
    }
    for chain in &table.chains {
        messages.push(new_chain(&table.name, chain));
        messages.extend(chain.rules.iter().map(|rule| new_rule(table, &chain.name, rule)));
    }
    messages
}

/// Messages that remove a table, whether it exists or not.
pub(super) fn remove(name: &str) -> Vec<NfTablesMessage> {
    let attributes = vec![TableAttribute::Name(name.to_owned())];
    vec![
        new_table(name),
        NfTablesMessage::DeleteTable(TableMessage { attributes }),
    ]
}

fn new_table(name: &str) -> NfTablesMessage {
    NfTablesMessage::NewTable(TableMessage {
        attributes: vec![TableAttribute::Name(name.to_owned())],
    })
}

fn new_set(table: &str, id: usize, set: &AddressSet) -> NfTablesMessage {
    NfTablesMessage::NewSet(SetMessage {
        attributes: vec![
            SetAttribute::Table(table.to_owned()),
            SetAttribute::Name(set.name.clone()),
            SetAttribute::Flags(SetFlags::empty()),
            SetAttribute::KeyType(TYPE_IPV4_ADDR),
            SetAttribute::KeyLen(4),
            SetAttribute::Id(id as u32 + 1),
        ],
    })
}

fn elements(table: &str, id: usize, set: &AddressSet) -> NfTablesMessage {
    let element = |address: &Ipv4Addr| {
        ListAttribute::Element(vec![SetElementAttribute::Key(DataAttribute::Value(
            address.octets().to_vec(),
        ))])
    };
    NfTablesMessage::NewSetElement(SetElementMessage {
        attributes: vec![
            SetElementList::Table(table.to_owned()),
            SetElementList::Set(set.name.clone()),
            SetElementList::SetId(id as u32 + 1),
            SetElementList::Elements(set.addresses.iter().map(element).collect()),
        ],
    })
}

fn new_chain(table: &str, chain: &Chain) -> NfTablesMessage {
    let hook = match chain.hook {
        Hook::PreRouting => InetHookNumber::PreRouting,
        Hook::Output => InetHookNumber::LocalOut,
        Hook::PostRouting => InetHookNumber::PostRouting,
    };
    // The kernel's priorities: NF_IP_PRI_NAT_DST, just after it, NF_IP_PRI_NAT_SRC.
    let (kind, priority): (_, i32) = match chain.kind {
        Kind::DestinationNat => ("nat", -100),
        Kind::Filter => ("filter", -90),
        Kind::SourceNat => ("nat", 100),
    };
    NfTablesMessage::NewChain(ChainMessage {
        attributes: vec![
            ChainAttribute::Table(table.to_owned()),
            ChainAttribute::Name(chain.name.clone()),
            ChainAttribute::Policy(ACCEPT),
            ChainAttribute::Type(kind.to_owned()),
            ChainAttribute::Hook(vec![
                HookAttribute::Number(hook.into()),
                HookAttribute::Priority(priority.cast_unsigned()),
            ]),
        ],
    })
}

fn new_rule(table: &Table, chain: &str, rule: &Rule) -> NfTablesMessage {
    let mut expressions = Vec::new();
    for expr in rule {
        encode(table, expr, &mut expressions);
    }
    NfTablesMessage::NewRule(RuleMessage {
        attributes: vec![
            RuleAttribute::Table(table.name.clone()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ],
    })
}

fn encode(table: &Table, expr: &Expr, out: &mut Vec<Element>) {
    match expr {
        Expr::Tcp => out.extend(meta(MetaKey::L4Proto, Operator::Equal, vec![PROTOCOL_TCP])),
        Expr::Udp => out.extend(meta(MetaKey::L4Proto, Operator::Equal, vec![PROTOCOL_UDP])),
        Expr::Mark(mark) => out.extend(meta(MetaKey::Mark, Operator::Equal, mark.to_ne_bytes().to_vec())),
        Expr::SocketUid(uid) => out.extend(meta(MetaKey::SocketUserId, Operator::Equal, uid.to_ne_bytes().to_vec())),
        Expr::SocketGid(gid) => out.extend(meta(
            MetaKey::SocketGroupId,
            Operator::Equal,
            gid.to_ne_bytes().to_vec(),
        )),
        Expr::Ipv4 => out.extend(meta(MetaKey::Nfproto, Operator::Equal, vec![NFPROTO_IPV4])),
        Expr::SourceNet(net) => source_net(out, net),
        Expr::OutInterface(name) => {
            let mut bytes = name.clone().into_bytes();
            bytes.resize(IFNAMSIZ, 0);
            out.extend(meta(MetaKey::Oifname, Operator::Equal, bytes));
        }
        Expr::DestinationPort(low, high) => {
            out.push(payload(TRANSPORT_HEADER, 2, 2));
            if low == high {
                out.push(compare(Operator::Equal, low.to_be_bytes().to_vec()));
            } else {
                out.push(compare(Operator::GreatherThanEqual, low.to_be_bytes().to_vec()));
                out.push(compare(Operator::LessThanEqual, high.to_be_bytes().to_vec()));
            }
        }
        Expr::Source(address) => address_is(out, 12, address.octets().to_vec()),
        Expr::Destination(address) => address_is(out, 16, address.octets().to_vec()),
        Expr::DestinationNet(address, bits) => {
            address_is(out, 16, address.octets()[..usize::from(bits / 8).min(4)].to_vec());
        }
        Expr::DestinationNotIn(set) => {
            out.extend(meta(MetaKey::Nfproto, Operator::Equal, vec![NFPROTO_IPV4]));
            out.push(payload(NETWORK_HEADER, 16, 4));
            out.push(not_in(&table.sets[*set].name, *set));
        }
        Expr::OneOf(count) => {
            out.push(other(
                "numgen",
                &[(1, register(Register::Reg1)), (2, *count), (3, NUMGEN_RANDOM)],
            ));
            out.push(compare(Operator::Equal, 0u32.to_ne_bytes().to_vec()));
        }
        Expr::Redirect(port) => {
            out.push(load(Register::Reg1, port.to_be_bytes().to_vec()));
            out.push(other("redir", &[(1, register(Register::Reg1))]));
        }
        Expr::DestinationNat(to) => {
            out.push(load(Register::Reg1, to.ip().octets().to_vec()));
            out.push(load(Register::Reg2, to.port().to_be_bytes().to_vec()));
            let (address, port) = (register(Register::Reg1), register(Register::Reg2));
            // Type (1 is destination), family, address, port: NFTA_NAT_*.
            out.push(other(
                "nat",
                &[(1, 1), (2, u32::from(NFPROTO_IPV4)), (3, address), (5, port)],
            ));
        }
        Expr::Masquerade => out.push(other("masq", &[])),
        Expr::Reset => out.push(other("reject", &[(1, REJECT_TCP_RESET)])),
        Expr::Return => out.push(verdict(Verdict::Return)),
    }
}

/// `NFT_NG_RANDOM`.
const NUMGEN_RANDOM: u32 = 1;
/// `NFT_REJECT_TCP_RST`.
const REJECT_TCP_RESET: u32 = 1;

fn address_is(out: &mut Vec<Element>, offset: u32, bytes: Vec<u8>) {
    out.extend(meta(MetaKey::Nfproto, Operator::Equal, vec![NFPROTO_IPV4]));
    out.push(payload(NETWORK_HEADER, offset, bytes.len() as u32));
    out.push(compare(Operator::Equal, bytes));
}

/// Matches a network from its first to its last address: addresses compare in network order, so no mask is needed.
fn source_net(out: &mut Vec<Element>, net: &IpNet) {
    let (family, offset, first, last) = match net {
        IpNet::V4(net) => (
            NFPROTO_IPV4,
            12,
            net.network().octets().to_vec(),
            net.broadcast().octets().to_vec(),
        ),
        IpNet::V6(net) => (
            NFPROTO_IPV6,
            8,
            net.network().octets().to_vec(),
            net.broadcast().octets().to_vec(),
        ),
    };
    out.extend(meta(MetaKey::Nfproto, Operator::Equal, vec![family]));
    out.push(payload(NETWORK_HEADER, offset, first.len() as u32));
    out.push(compare(Operator::GreatherThanEqual, first));
    out.push(compare(Operator::LessThanEqual, last));
}

fn register(register: Register) -> u32 {
    register.into()
}

fn meta(key: MetaKey, operator: Operator, value: Vec<u8>) -> [Element; 2] {
    let load = Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]);
    [load.into(), compare(operator, value)]
}

fn payload(base: u32, offset: u32, length: u32) -> Element {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn compare(operator: Operator, value: Vec<u8>) -> Element {
    let data = Cmp::Data(DataAttribute::Value(value));
    Expressions::Cmp(vec![Cmp::SourceRegister(Register::Reg1), Cmp::Op(operator), data]).into()
}

fn load(to: Register, value: Vec<u8>) -> Element {
    let data = Immediate::Data(DataAttribute::Value(value));
    Expressions::Immediate(vec![Immediate::DestinationRegister(to), data]).into()
}

fn verdict(verdict: Verdict) -> Element {
    let data = Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(verdict)]));
    Expressions::Immediate(vec![Immediate::DestinationRegister(Register::Verdict), data]).into()
}

fn not_in(set: &str, id: usize) -> Element {
    /// `NFT_LOOKUP_F_INV`.
    const INVERTED: u32 = 1;
    Expressions::Lookup(vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::SetId(id as u32 + 1),
        Lookup::Flags(INVERTED),
    ])
    .into()
}

/// Expression that the packet crate lacks: its attributes are numbers in network order.
fn other(name: &str, attributes: &[(u16, u32)]) -> Element {
    let attribute = |(kind, value): &(u16, u32)| DefaultNla::new(*kind, value.to_be_bytes().to_vec());
    if attributes.is_empty() {
        // The kernel requires the nesting flag of the empty data attribute; a name alone is accepted.
        return ListAttribute::Element(vec![
            ExpressionAttribute::Name(name.to_owned()),
            ExpressionAttribute::Other(DefaultNla::new(2 | NLA_F_NESTED, Vec::new())),
        ]);
    }
    let attributes = attributes.iter().map(attribute).collect();
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes,
    }
    .into()
}
