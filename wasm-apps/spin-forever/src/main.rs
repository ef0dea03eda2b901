//! Computes and never calls its host again.

fn main() {
    println!("spin-forever: round and round");
    let mut value = 1u64;
    loop {
        value = std::hint::black_box(value.wrapping_mul(3).wrapping_add(1));
    }
}
