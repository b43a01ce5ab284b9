package dev.attar.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.PrintStream;

/** Prints results for programs. */
final class Json {

  // Escapes keep text that is not valid UTF-8 and serve terminals of any encoding.
  private static final ObjectMapper MAPPER = JsonMapper.builder()
    .enable(SerializationFeature.INDENT_OUTPUT)
    .enable(JsonWriteFeature.ESCAPE_NON_ASCII)
    .disable(JsonGenerator.Feature.AUTO_CLOSE_TARGET)
    .build();

  private Json() {}

  /** Prints a value made of maps, lists, arrays, strings, numbers and booleans. */
  static void print(PrintStream out, Object value) throws IOException {
    MAPPER.writeValue(out, value);
    out.println();
  }
}
