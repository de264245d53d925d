//! Certificate signing requests: parse one and check it against its identity, or make one.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SubjectPublicKeyInfo};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256},
    prelude::FromDer,
};

use crate::{CSR_BYTES_MAX, Error};

/// A request with a verified signature. The names are as the requester wrote them, until [`Csr::check`].
#[derive(Clone, Debug)]
pub struct Csr {
    dns_names: Vec<String>,
    other_name: Option<&'static str>,
    common_names: Vec<String>,
    pub(crate) key: SubjectPublicKeyInfo,
}

impl Csr {
    /// Parses a DER request, which must be signed with its own ECDSA P-256 key.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > CSR_BYTES_MAX {
            return Err(Error::CsrTooLarge(der.len()));
        }
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|error| Error::CsrNotDer(error.to_string()))?;
        if !rest.is_empty() {
            return Err(Error::CsrNotDer(format!("{} bytes follow it", rest.len())));
        }
        let key = verified_key(&request)?;
        let mut csr = Self {
            dns_names: Vec::new(),
            other_name: None,
            common_names: Vec::new(),
            key,
        };
        csr.read_names(&request)?;
        Ok(csr)
    }

    fn read_names(&mut self, request: &X509CertificationRequest<'_>) -> Result<(), Error> {
        for common_name in request.certification_request_info.subject.iter_common_name() {
            let text = common_name
                .as_str()
                .map_err(|error| Error::CsrNotDer(error.to_string()))?;
            self.common_names.push(text.to_owned());
        }
        for extension in request.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
                            other => self.other_name = Some(type_of(other)),
                        }
                    }
                }
                ParsedExtension::ParseError { error } => return Err(Error::CsrNotDer(error.to_string())),
                _ => {} // Other requested extensions are not granted: the issuer decides on those of the leaf.
            }
        }
        Ok(())
    }

    /// Checks that the request is for `identity` and nothing else.
    pub fn check(&self, identity: &str) -> Result<(), Error> {
        if let Some(other) = self.other_name {
            return Err(Error::CsrOtherName(other));
        }
        let [name] = self.dns_names.as_slice() else {
            return Err(Error::CsrDnsNames(self.dns_names.len()));
        };
        same("DNS name", name, identity)?;
        match self.common_names.as_slice() {
            [] => Ok(()),
            [empty] if empty.is_empty() => Ok(()),
            names => names.iter().try_for_each(|name| same("common name", name, identity)),
        }
    }
}

fn same(field: &'static str, csr: &str, identity: &str) -> Result<(), Error> {
    if csr == identity {
        return Ok(());
    }
    Err(Error::CsrNameDiffers {
        field,
        csr: csr.to_owned(),
        identity: identity.to_owned(),
    })
}

fn type_of(name: &GeneralName<'_>) -> &'static str {
    match name {
        GeneralName::RFC822Name(_) => "e-mail address",
        GeneralName::IPAddress(_) => "IP address",
        GeneralName::URI(_) => "URI",
        _ => "name of another type",
    }
}

/// Returns the requester's key if it is of the supported type and has signed the request.
fn verified_key(request: &X509CertificationRequest<'_>) -> Result<SubjectPublicKeyInfo, Error> {
    let info = &request.certification_request_info;
    let algorithm = &info.subject_pki.algorithm;
    let curve = algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    if algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY
        || curve != Some(OID_EC_P256)
        || request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(Error::CsrNotP256);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &info.subject_pki.subject_public_key.data)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| Error::CsrBadSignature)?;
    SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|error| Error::CsrNotDer(error.to_string()))
}

/// A workload's new key and its request for a leaf.
#[derive(Clone)]
pub struct KeyAndCsr {
    /// Private key, PKCS#8 DER (`key.p8`).
    pub key_pkcs8_der: Vec<u8>,
    /// Request, DER (`csr.der`).
    pub csr_der: Vec<u8>,
}

/// Makes an ECDSA P-256 key and a request whose common name and only SAN is `name`.
pub fn make_key_and_csr(name: &str) -> Result<KeyAndCsr, Error> {
    let key = KeyPair::generate().map_err(Error::crypto)?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(Error::crypto)?;
    params.distinguished_name = common_name(name);
    let csr = params.serialize_request(&key).map_err(Error::crypto)?;
    Ok(KeyAndCsr {
        key_pkcs8_der: key.serialize_der(),
        csr_der: csr.der().to_vec(),
    })
}

pub(crate) fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
