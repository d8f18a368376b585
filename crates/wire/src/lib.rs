//! Public message bodies: the shapes that people and programs outside send and get, versioned, and nothing else.
//!
//! **Nothing here does I/O, and no type of this crate goes further inside than the adapter that parsed it.** Conversions
//! are pure and lead to the arguments of `eventflow-ports`, once for every face of the service (ADR 18). The crate serves
//! both sides: the service reads requests and writes answers, agents and the command line the other way round.
//!
//! Start at [`v1`], the one version there is; [`envelope`] is what stands around a message.

pub mod envelope;
pub mod v1;
