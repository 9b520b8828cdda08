//! Who somebody is: tokens, keys, certificates.
