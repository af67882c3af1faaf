//! The types of tensors and of whole files, as ggml numbers them.

/// Elements and bytes of one block of a type; `None` for types that ggml does not have.
pub(super) fn block(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 => (1, 4),       // F32
        1 | 30 => (1, 2),  // F16, BF16
        2 => (32, 18),     // Q4_0
        3 => (32, 20),     // Q4_1
        6 => (32, 22),     // Q5_0
        7 => (32, 24),     // Q5_1
        8 => (32, 34),     // Q8_0
        9 => (32, 36),     // Q8_1
        10 => (256, 84),   // Q2_K
        11 => (256, 110),  // Q3_K
        12 => (256, 144),  // Q4_K
        13 => (256, 176),  // Q5_K
        14 => (256, 210),  // Q6_K
        15 => (256, 292),  // Q8_K
        16 => (256, 66),   // IQ2_XXS
        17 => (256, 74),   // IQ2_XS
        18 => (256, 98),   // IQ3_XXS
        19 => (256, 50),   // IQ1_S
        20 => (32, 18),    // IQ4_NL
        21 => (256, 110),  // IQ3_S
        22 => (256, 82),   // IQ2_S
        23 => (256, 136),  // IQ4_XS
        24 => (1, 1),      // I8
        25 => (1, 2),      // I16
        26 => (1, 4),      // I32
        27 | 28 => (1, 8), // I64, F64
        29 => (256, 56),   // IQ1_M
        34 => (256, 54),   // TQ1_0
        35 => (256, 66),   // TQ2_0
        39 => (32, 17),    // MXFP4
        40 => (64, 36),    // NVFP4
        41 => (128, 18),   // Q1_0
        42 => (64, 18),    // Q2_0
        _ => return None,
    })
}

/// The name of a file's prevailing type (`general.file_type`); empty for unknown ones.
#[must_use]
pub fn quantization(file_type: u64) -> &'static str {
    const NAMES: &[&str] = &[
        "F32", "F16", "Q4_0", "Q4_1", "", "", "", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S",
        "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS",
        "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M",
        "IQ4_XS", "IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0",
    ];
    usize::try_from(file_type)
        .ok()
        .and_then(|index| NAMES.get(index))
        .copied()
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    /// Our table against the library's own.
    #[test]
    fn blocks_are_those_of_ggml() {
        for kind in 0..=64_u32 {
            let ours = super::block(kind);
            if kind >= llama_cpp_sys_2::GGML_TYPE_COUNT {
                assert_eq!(ours, None, "type {kind}");
                continue;
            }
            let native = kind as llama_cpp_sys_2::ggml_type;
            // SAFETY: pure table look-ups with a number below the count of types.
            let (elements, bytes) = unsafe {
                (
                    llama_cpp_sys_2::ggml_blck_size(native),
                    llama_cpp_sys_2::ggml_type_size(native),
                )
            };
            let theirs = (elements > 0).then_some((elements as u64, bytes as u64));
            assert_eq!(ours, theirs, "type {kind}");
        }
    }
}
