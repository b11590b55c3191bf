//! Numbers with leading zeros. By hand: there are several in each event and each delivery, and `format!` takes several times
//! as long to pad one.

/// A sequence as a delivery carries it: 20 digits, which any has room in.
pub fn of_sequence(sequence: u64) -> [u8; 20] {
    let mut digits = [b'0'; 20];
    write(&mut digits, sequence);
    digits
}

/// Writes a number with as many digits as there is room for: the last ones.
pub(crate) fn write(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_have_twenty_digits() {
        assert_eq!(of_sequence(0), *b"00000000000000000000");
        assert_eq!(of_sequence(1_203), *b"00000000000000001203");
        assert_eq!(of_sequence(u64::MAX), u64::MAX.to_string().as_bytes());
    }
}
