package dev.attar.formats.gguf;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.Utf8;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Metadata of all types and tensors of all types, with random contents. */
final class RandomModels {

  private RandomModels() {}

  /** A value and an array of every type, in random order; with {@code nested} also arrays of arrays, which llama.cpp does not read. */
  static Metadata metadata(Random random, boolean nested) {
    List<MetadataValue.Type> types = new ArrayList<>(List.of(MetadataValue.Type.values()));
    java.util.Collections.shuffle(types, random);
    Map<String, MetadataValue> entries = new LinkedHashMap<>();
    entries.put("general.architecture", MetadataValue.string("llama"));
    for (MetadataValue.Type type : types) {
      if (type != MetadataValue.Type.ARRAY) {
        entries.put("one." + type, new MetadataValue(type, null, scalar(random, type)));
        entries.put("many." + type, array(random, type, 0));
      } else if (nested) {
        entries.put("nested", array(random, type, 3));
      }
    }
    return Metadata.of(entries);
  }

  private static Object scalar(Random random, MetadataValue.Type type) {
    return switch (type) {
      case FLOAT32 -> random.nextFloat();
      case FLOAT64 -> random.nextDouble();
      case BOOL -> random.nextBoolean();
      case STRING -> text(random);
      default -> integer(random, type);
    };
  }

  private static String text(Random random) {
    byte[] bytes = new byte[random.nextInt(40)];
    random.nextBytes(bytes);
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] = bytes[i] == 0 ? 1 : bytes[i]; // llama.cpp's text ends at a zero
    }
    return Utf8.decode(bytes);
  }

  private static long integer(Random random, MetadataValue.Type type) {
    long bits = random.nextLong() >> (64 - 8 * type.bytes());
    boolean unsigned =
      type == MetadataValue.Type.UINT8 || type == MetadataValue.Type.UINT16 || type == MetadataValue.Type.UINT32;
    return unsigned ? bits & ((1L << (8 * type.bytes())) - 1) : bits;
  }

  private static MetadataValue array(Random random, MetadataValue.Type type, int depth) {
    int n = random.nextInt(20);
    Object values = switch (type) {
      case FLOAT32 -> {
        float[] numbers = new float[n];
        for (int i = 0; i < n; i++) {
          numbers[i] = random.nextFloat();
        }
        yield numbers;
      }
      case FLOAT64 -> random.doubles(n).toArray();
      case BOOL -> {
        boolean[] flags = new boolean[n];
        for (int i = 0; i < n; i++) {
          flags[i] = random.nextBoolean();
        }
        yield flags;
      }
      case STRING -> {
        String[] texts = new String[n];
        for (int i = 0; i < n; i++) {
          texts[i] = text(random);
        }
        yield texts;
      }
      case ARRAY -> {
        MetadataValue[] arrays = new MetadataValue[Math.min(n, 4)];
        for (int i = 0; i < arrays.length; i++) {
          arrays[i] = array(random, depth > 0 ? MetadataValue.Type.ARRAY : MetadataValue.Type.INT16, depth - 1);
        }
        yield arrays;
      }
      default -> {
        long[] numbers = new long[n];
        for (int i = 0; i < n; i++) {
          numbers[i] = integer(random, type);
        }
        yield numbers;
      }
    };
    return new MetadataValue(MetadataValue.Type.ARRAY, type, values);
  }

  /** A tensor of every type, of one to four dimensions. */
  static List<TensorInfo> tensors(Random random) {
    List<TensorInfo> tensors = new ArrayList<>();
    for (TensorType type : TensorType.values()) {
      long[] shape = new long[1 + random.nextInt(4)];
      shape[0] = (long) type.blockLength() * (1 + random.nextInt(9));
      for (int i = 1; i < shape.length; i++) {
        shape[i] = 2L + random.nextInt(4);
      }
      tensors.add(new TensorInfo("blk." + tensors.size() + "." + type, type, shape));
    }
    return tensors;
  }

  static List<byte[]> contents(Random random, List<TensorInfo> tensors) {
    List<byte[]> contents = new ArrayList<>();
    for (TensorInfo tensor : tensors) {
      byte[] bytes = new byte[(int) tensor.bytes()];
      random.nextBytes(bytes);
      contents.add(bytes);
    }
    return contents;
  }
}
