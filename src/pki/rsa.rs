//! RSA keys. ring signs with them but makes none; here are the two primes and what follows from
//! them, as FIPS 186-5 (A.1.3) has it. ring checks the whole key before it is used.

use num_bigint::BigUint;
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};

use crate::{
    Error, Result,
    der::{positive_integer, sequence},
};

const EXPONENT: u32 = 65_537;
/// Rounds of Miller and Rabin's test; Go has as many.
const ROUNDS: usize = 20;
/// Candidates are divided by the primes below this first, which most of them do not survive.
const SMALL: u32 = 2_000;
/// A prime is one of about a thousand candidates; so many misses say that the source of random
/// numbers is none.
const TRIES: usize = 100_000;

/// A private key.
pub(crate) struct Key {
    pair: RsaKeyPair,
    /// RSAPrivateKey in DER (RFC 8017).
    private: Vec<u8>,
}

impl Key {
    /// A new key with a modulus of so many bits, which takes about a second.
    pub(crate) fn generate(bits: usize) -> Result<Self> {
        let random = SystemRandom::new();
        let small = primes_below(SMALL);
        loop {
            let (a, b) = (prime(bits / 2, &small, &random)?, prime(bits / 2, &small, &random)?);
            let (p, q) = if a > b { (a, b) } else { (b, a) };
            if (&p - &q).bits() as usize + 100 <= bits / 2 {
                // Too close to each other: the product could be taken apart from its root.
                continue;
            }
            return Self::of(&p, &q).ok_or(Error::Crypto("generating a key"));
        }
    }

    fn of(p: &BigUint, q: &BigUint) -> Option<Self> {
        let one = BigUint::from(1u32);
        let exponent = BigUint::from(EXPONENT);
        let (less_p, less_q) = (p - &one, q - &one);
        let secret = exponent.modinv(&(&less_p * &less_q))?;
        let numbers = [
            BigUint::ZERO,
            p * q,
            exponent,
            secret.clone(),
            p.clone(),
            q.clone(),
            &secret % &less_p,
            &secret % &less_q,
            q.modinv(p)?,
        ];
        let encoded = numbers.map(|number| positive_integer(&number.to_bytes_be()));
        let parts: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
        let private = sequence(&parts);
        let pair = RsaKeyPair::from_der(&private).ok()?;
        Some(Self { pair, private })
    }

    /// RSAPrivateKey in DER.
    pub(crate) fn private(&self) -> &[u8] {
        &self.private
    }

    /// RSAPublicKey in DER.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.pair.public().as_ref().to_vec()
    }

    /// A PKCS #1 v1.5 signature with SHA-256.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| Error::Crypto("signing"))?;
        Ok(signature)
    }
}

fn primes_below(limit: u32) -> Vec<u32> {
    let mut primes: Vec<u32> = Vec::new();
    for number in 2..limit {
        if primes.iter().all(|prime| number % prime != 0) {
            primes.push(number);
        }
    }
    primes
}

/// Random bytes as a number.
fn number(bytes: usize, random: &SystemRandom) -> Result<BigUint> {
    let mut buffer = vec![0; bytes];
    random.fill(&mut buffer).map_err(|_| Error::Crypto("random numbers"))?;
    Ok(BigUint::from_bytes_be(&buffer))
}

/// A random prime of exactly so many bits. Its two highest bits are set, so that the product of two
/// has all of its own.
fn prime(bits: usize, small: &[u32], random: &SystemRandom) -> Result<BigUint> {
    let zero = BigUint::ZERO;
    for _ in 0..TRIES {
        let mut candidate = number(bits / 8, random)?;
        for bit in [bits - 1, bits - 2, 0] {
            candidate.set_bit(bit as u64, true);
        }
        if small.iter().any(|prime| &candidate % *prime == zero)
            || (&candidate - 1u32) % EXPONENT == zero
        {
            continue;
        }
        if is_prime(&candidate, random)? {
            return Ok(candidate);
        }
    }
    Err(Error::Crypto("random numbers"))
}

/// Miller and Rabin's test of an odd number that is larger than the small primes.
fn is_prime(candidate: &BigUint, random: &SystemRandom) -> Result<bool> {
    let one = BigUint::from(1u32);
    let less = candidate - &one;
    let twos = less.trailing_zeros().unwrap_or(0);
    let odd = &less >> twos;
    let bytes = candidate.to_bytes_be().len();
    'rounds: for _ in 0..ROUNDS {
        // Between 2 and candidate - 2.
        let witness = number(bytes, random)? % (&less - &one - &one) + 2u32;
        let mut power = witness.modpow(&odd, candidate);
        if power == one || power == less {
            continue;
        }
        for _ in 1..twos {
            power = &power * &power % candidate;
            if power == less {
                continue 'rounds;
            }
        }
        return Ok(false);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_what_looks_like_them() {
        let random = SystemRandom::new();
        let is = |number: u64| is_prime(&BigUint::from(number), &random).unwrap();
        // Mersenne's, and one below 2^64.
        assert!(is((1 << 61) - 1) && is(18_446_744_073_709_551_557));
        // Carmichael's numbers, and a product of two large primes.
        assert!(!is(561) && !is(1_590_231_231_043_178_376) && !is(4_294_967_291 * 4_294_967_279));
        assert_eq!(primes_below(20), [2, 3, 5, 7, 11, 13, 17, 19]);
    }

    #[test]
    fn a_key_is_one_to_ring() {
        // The smallest that ring takes.
        let key = Key::generate(2048).unwrap();
        assert_eq!(key.pair.public().modulus_len(), 256);
        assert_eq!(key.sign(b"x").unwrap().len(), 256);
    }
}
