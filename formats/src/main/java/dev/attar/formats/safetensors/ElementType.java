package dev.attar.formats.safetensors;

import dev.attar.formats.TensorType;
import java.util.Arrays;
import java.util.Optional;

/** The types of values that safetensors knows and that are read here. The constants' names are the file's. */
public enum ElementType {
  F64(8, TensorType.F64),
  F32(4, TensorType.F32),
  F16(2, TensorType.F16),
  BF16(2, TensorType.BF16),
  I64(8, TensorType.I64),
  I32(4, TensorType.I32),
  I16(2, TensorType.I16),
  I8(1, TensorType.I8),
  U64(8, null),
  U32(4, null),
  U16(2, null),
  U8(1, null),
  BOOL(1, null);

  private final int bytes;
  private final TensorType tensorType;

  ElementType(int bytes, TensorType tensorType) {
    this.bytes = bytes;
    this.tensorType = tensorType;
  }

  /** Bytes of one value. */
  public int bytes() {
    return bytes;
  }

  /** The same type in ggml; empty for those that it lacks. */
  public Optional<TensorType> tensorType() {
    return Optional.ofNullable(tensorType);
  }

  /** Whether values are real numbers. */
  public boolean isFloat() {
    return tensorType != null && tensorType.isFloat();
  }

  /** The type with this name in a file. */
  public static Optional<ElementType> byName(String name) {
    return Arrays.stream(values())
      .filter(type -> type.name().equals(name))
      .findFirst();
  }
}
