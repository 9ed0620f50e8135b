//! Names of what inputs can lead to in this crate.

use multifeed_proto::fuzz_names;

use crate::NodeError;
use crate::check::{Finding, StoreFinding};
use crate::convert::ConvertError;

fuzz_names!(NODE_ERRORS, node_error, NodeError:
    Storage Damaged Store NotWritable Blocked LostTail Full UnknownFeed UnknownMultifeed UnknownConnection
    UnknownQuestion RootKeyInUse OneMultifeed BlockTooLarge Name ExtensionName UnknownExtension Layout
    WriterExists TooManyFeeds Closed NotAvailable Cancelled ReadOnly NoStore);

fuzz_names!(FINDINGS, finding, Finding:
    KeyMissing KeyOther KeyUnfit KeyLong NothingProven LengthImpossible SecretKey Name Header PageSize
    BitfieldMissing BitfieldLost Summaries BeyondEnd
    NodeUnmarked NodeRebuilt Unproven SignatureWrong LengthUnproven Unopenable BlocksWrong BlocksCut
    BlocksUnmarked Unrecorded Sealed Forked);

fuzz_names!(STORE_FINDINGS, store_finding, StoreFinding:
    MasterKeyMissing MasterKeyOther NoList NotListed NoFolder BlockedList Gap OpenToOthers);

fuzz_names!(CONVERT_ERRORS, convert_error, ConvertError:
    NoStore NoMultifeed Damaged Name Changed Read Write List NotEmpty Inside Folder Stopped);
