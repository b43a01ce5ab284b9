package dev.attar.quant;

import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;

/**
 * What becomes of one tensor.
 *
 * @param source the tensor as the model has it
 * @param target the type that is written
 * @param importance whether the importance matrix weighs the columns
 * @param note why the type is not the one that the rules wanted, one clause; empty if there is nothing to say
 */
public record TensorPlan(TensorInfo source, TensorType target, boolean importance, String note) {
  /** The tensor's name. */
  public String name() {
    return source.name();
  }

  /** The tensor as it is written. */
  public TensorInfo info() {
    return source.withType(target);
  }

  /** Bytes in the source. */
  public long bytesBefore() {
    return source.bytes();
  }

  /** Bytes as written. */
  public long bytesAfter() {
    return info().bytes();
  }

  /** Whether bytes are copied as they are. */
  public boolean copies() {
    return source.type() == target;
  }
}
