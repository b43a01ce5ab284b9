package dev.attar.cli;

import java.util.LinkedHashMap;
import java.util.Map;

/** How much the user wants to be removed of a model as a whole. */
sealed interface CutTarget {
  /** This part of its neurons, heads or layers, above 0 and below 1. */
  record Ratio(double ratio) implements CutTarget {}

  /** As little as the file allows, which may take so many bytes. */
  record FileSize(ByteSize size) implements CutTarget {}

  /** As little as lets it generate tokens so many times as fast, above 1. */
  record Speed(double times) implements CutTarget {}

  /** For the name of a file. */
  default String name() {
    return switch (this) {
      case Ratio(double ratio) -> Text.plain(ratio);
      case FileSize(ByteSize size) -> size.word();
      case Speed(double times) -> Text.plain(times) + "x";
    };
  }

  /** For people: what was asked for. */
  default String text() {
    return switch (this) {
      case Ratio(double ratio) -> Text.percent(ratio);
      case FileSize(ByteSize size) -> "a file of at most " + size.bytes() + " bytes";
      case Speed(double times) -> Text.plain(times) + " times the speed of generation";
    };
  }

  /** For programs. */
  default Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    switch (this) {
      case Ratio(double ratio) -> json.put("ratio", ratio);
      case FileSize(ByteSize size) -> json.put("file_bytes", size.bytes());
      case Speed(double times) -> json.put("generation_speed", times);
    }
    return json;
  }
}
