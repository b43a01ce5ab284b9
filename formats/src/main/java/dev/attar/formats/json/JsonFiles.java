package dev.attar.formats.json;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.exc.StreamConstraintsException;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import com.fasterxml.jackson.core.util.Separators;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.exc.MismatchedInputException;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.MissingNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.Utf8;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Optional;

/**
 * Reads JSON files that nobody vouches for: size, nesting and lengths are bounded, and every error is one line that names the file. Also
 * gives the text of files to be written.
 */
public final class JsonFiles {

  /** Files beyond this many bytes are refused. The largest tokenizers in use take some 35 MB. */
  public static final long MAX_BYTES = 512L << 20;

  private static final StreamReadConstraints CONSTRAINTS = StreamReadConstraints.builder()
    .maxNestingDepth(200)
    .maxDocumentLength(MAX_BYTES)
    .maxStringLength(64 << 20)
    .maxNameLength(1 << 20)
    .maxNumberLength(1000)
    .build();

  // Names are vocabulary entries more often than not: neither interned nor kept in a symbol table.
  private static final JsonMapper MAPPER = JsonMapper.builder(
    JsonFactory.builder()
      .streamReadConstraints(CONSTRAINTS)
      .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
      .disable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES)
      .build()
  ).build();

  private static final JsonMapper STRICT = MAPPER.rebuild()
    .enable(DeserializationFeature.FAIL_ON_READING_DUP_TREE_KEY)
    .build();

  // Escapes keep text that is not valid UTF-16.
  private static final ObjectWriter WRITER = JsonMapper.builder()
    .enable(JsonWriteFeature.ESCAPE_NON_ASCII)
    .build()
    .writer(
      new DefaultPrettyPrinter(
        new Separators()
          .withObjectFieldValueSpacing(Separators.Spacing.AFTER)
          .withObjectEmptySeparator("")
          .withArrayEmptySeparator("")
      )
        .withObjectIndenter(new DefaultIndenter("  ", "\n"))
        .withArrayIndenter(new DefaultIndenter("  ", "\n"))
    );

  private static final String OBJECT = "a JSON object";

  /** Characters of a malformed text that a message shows. */
  private static final int QUOTED = 20;

  private JsonFiles() {}

  /** What a {@link #stream} call does with the parser. */
  @FunctionalInterface
  public interface Body {
    /** Reads; the parser stands before the first token. */
    void read(JsonParser parser) throws IOException;
  }

  /**
   * Reads a file that holds one object.
   *
   * @throws FormatException if it is not well-formed or not an object
   * @throws IOException if it cannot be read
   */
  public static ObjectNode object(Path file) throws IOException {
    JsonNode[] node = new JsonNode[1];
    stream(file, parser -> node[0] = tree(parser));
    return requireObject(file, "top level", node[0]);
  }

  /** As {@link #object}, empty if there is no such file. */
  public static Optional<ObjectNode> objectIfPresent(Path file) throws IOException {
    return Files.isRegularFile(file) ? Optional.of(object(file)) : Optional.empty();
  }

  /** The value at the parser's next token, read whole; a missing node at the end of the input. */
  public static JsonNode tree(JsonParser parser) throws IOException {
    JsonNode node = MAPPER.readTree(parser);
    return node == null ? MissingNode.getInstance() : node;
  }

  /**
   * Reads an object out of a byte array; a key that occurs twice is an error.
   *
   * @param file the file that the bytes come from
   * @param place where in it they lie
   */
  public static ObjectNode strictObject(Path file, String place, byte[] bytes) throws IOException {
    try (JsonParser parser = STRICT.createParser(utf8(new ByteArrayInputStream(bytes)))) {
      ObjectNode object = requireObject(file, place, STRICT.readTree(parser));
      if (parser.nextToken() != null) {
        throw malformed(file, place, bytes, parser.currentTokenLocation().getCharOffset());
      }
      return object;
    } catch (JsonProcessingException e) {
      throw malformed(file, place, bytes, e);
    } catch (CharacterCodingException _) {
      int at = Utf8.firstInvalid(bytes);
      String found = String.format(Locale.ROOT, "%02x", bytes[at]);
      throw new FormatException(file, place + ", byte " + at, found, "UTF-8 text");
    }
  }

  /** Jackson's messages are about its own classes and settings. */
  private static FormatException malformed(Path file, String place, byte[] bytes, JsonProcessingException e) {
    if (e instanceof StreamConstraintsException) {
      return new FormatException(file, place, "values that are too long or nested too deeply", OBJECT);
    }
    long at = e.getLocation().getCharOffset();
    return e instanceof MismatchedInputException
      ? new FormatException(file, place + ", before character " + (at + 1), "a key for the second time", OBJECT)
      : malformed(file, place, bytes, at);
  }

  private static FormatException malformed(Path file, String place, byte[] bytes, long at) {
    String text = new String(bytes, StandardCharsets.UTF_8);
    int from = (int) Math.min(at, text.length());
    String rest = text.substring(from, Math.min(text.length(), from + QUOTED));
    String found = rest.isEmpty() ? "the end" : Utf8.quote(rest);
    return new FormatException(file, place + ", character " + (from + 1), found, OBJECT);
  }

  /**
   * Reads a large file token by token.
   *
   * @throws FormatException if it is not well-formed
   */
  public static void stream(Path file, Body body) throws IOException {
    long size = Files.size(file);
    if (size > MAX_BYTES) {
      throw new FormatException(file, "size", size + " bytes", "at most " + MAX_BYTES);
    }
    try (InputStream in = Files.newInputStream(file)) {
      stream(file, in, body);
    }
  }

  /** As {@link #stream(Path, Body)}, from the file's bytes. */
  public static void stream(Path file, InputStream bytes, Body body) throws IOException {
    try (JsonParser parser = MAPPER.createParser(utf8(bytes))) {
      body.read(parser);
      if (parser.nextToken() != null) {
        throw new FormatException(file, "not JSON: something follows the value");
      }
    } catch (JsonProcessingException e) {
      throw new FormatException(file, reason(e));
    } catch (CharacterCodingException _) {
      throw new FormatException(file, "not JSON: not UTF-8");
    }
  }

  /** Text in UTF-8; reading bytes that are not is an error, unlike with Jackson's own decoding. */
  private static Reader utf8(InputStream bytes) {
    return new InputStreamReader(bytes, StandardCharsets.UTF_8.newDecoder());
  }

  private static ObjectNode requireObject(Path file, String place, JsonNode node) throws FormatException {
    if (node instanceof ObjectNode object) {
      return object;
    }
    throw new FormatException(file, place, node == null || node.isMissingNode() ? "nothing" : kind(node), OBJECT);
  }

  /** The text of a file, in the form of Python's {@code json.dumps(…, indent=2)} with a line end. */
  public static byte[] text(ObjectNode object) throws IOException {
    return (WRITER.writeValueAsString(object) + "\n").getBytes(StandardCharsets.US_ASCII);
  }

  /** The kind of a JSON value, for messages: {@code number}, {@code array} and so on. */
  public static String kind(JsonNode node) {
    return node.getNodeType().name().toLowerCase(Locale.ROOT);
  }

  private static String reason(JsonProcessingException e) {
    String where = e.getLocation() == null
      ? ""
      : " at line " + e.getLocation().getLineNr() + ", column " + e.getLocation().getColumnNr();
    String message = e.getOriginalMessage().lines().findFirst().orElse("");
    return "not JSON" + where + ": " + (message.length() > 200 ? message.substring(0, 200) + "…" : message);
  }
}
