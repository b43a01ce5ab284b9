package dev.attar.bench.report;

import dev.attar.bench.Comparison;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Presents a comparison, or a training, as one HTML file that needs nothing else: styles, scripts, data and the charting library are in it,
 * and its content security policy lets it load nothing.
 */
public final class HtmlReport {

  private static final Pattern PLACEHOLDER = Pattern.compile("\\{\\{(\\w+)}}");

  private HtmlReport() {}

  /**
   * Checks what {@link #write} would, without writing: to be called before long work.
   *
   * @throws IOException as {@link #write}
   */
  public static void check(Path out, boolean overwrite) throws IOException {
    charts();
    GgufWriter.checkOutput(out, overwrite);
  }

  /**
   * Writes the report to a temporary file beside it and renames that.
   *
   * @param comparison what to show
   * @param out the file to be
   * @param overwrite whether an existing file is replaced
   * @throws java.nio.file.FileAlreadyExistsException if there is a file of this name and {@code overwrite} is not set
   * @throws IOException if the file cannot be written, or if this build carries no charting library
   */
  public static void write(Comparison comparison, Path out, boolean overwrite) throws IOException {
    write(comparison, List.of(), out, overwrite);
  }

  /**
   * The same with more findings.
   *
   * @param findings what else there is to say of the comparison, sentences that come before the others
   */
  public static void write(Comparison comparison, List<String> findings, Path out, boolean overwrite)
    throws IOException {
    SummaryTable table = SummaryTable.of(comparison);
    write(
      page(
        "report",
        ReportData.title(comparison),
        MarkdownTable.of(table),
        ReportData.json(comparison, findings, table)
      ),
      out,
      overwrite
    );
  }

  /**
   * The same for a training.
   *
   * @throws IOException likewise
   */
  public static void write(TrainingReport training, Path out, boolean overwrite) throws IOException {
    write(page("training", training.title(), training.markdown(), training.json()), out, overwrite);
  }

  private static void write(String html, Path out, boolean overwrite) throws IOException {
    byte[] page = html.getBytes(StandardCharsets.UTF_8);
    Path target = GgufWriter.checkOutput(out, overwrite);
    Path temporary = target.resolveSibling("." + UUID.randomUUID() + ".html.part");
    try {
      try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
        ByteBuffer bytes = ByteBuffer.wrap(page);
        while (bytes.hasRemaining()) {
          channel.write(bytes);
        }
        channel.force(true);
      }
      // Another program may have written a file of this name in between.
      GgufWriter.checkOutput(out, overwrite);
      move(temporary, target);
    } catch (IOException e) {
      throw e.getMessage() != null && e.getMessage().contains(out.toString())
        ? e
        : new IOException(out + ": the report could not be written: " + e.getMessage(), e);
    } finally {
      Files.deleteIfExists(temporary);
    }
  }

  private static void move(Path temporary, Path target) throws IOException {
    try {
      Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
    } catch (AtomicMoveNotSupportedException _) {
      Files.move(temporary, target, StandardCopyOption.REPLACE_EXISTING);
    }
  }

  /**
   * Puts a page together.
   *
   * @param kind the name of its template and of its script
   * @param title to be escaped
   * @param summary what is shown without scripts, to be escaped
   * @param data JSON without {@code <}
   */
  private static String page(String kind, String title, String summary, String data) throws IOException {
    String charts = charts();
    String script = resource("page.js") + resource(kind + ".js");
    String policy =
      "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'; " +
      ("script-src '" + digest(charts) + "' '" + digest(script) + "'");
    Map<String, String> parts = Map.of(
      "policy",
      policy,
      "title",
      escape(title),
      "style",
      resource("report.css"),
      "summary",
      escape(summary),
      "data",
      data,
      "charts",
      charts,
      "script",
      script
    );
    // In one pass, so that what looks like a placeholder in a part stays as it is.
    return PLACEHOLDER.matcher(resource(kind + ".html")).replaceAll(match ->
      Matcher.quoteReplacement(parts.get(match.group(1)))
    );
  }

  /** Text to stand in an element or in an attribute. */
  private static String escape(String text) {
    return text
      .replace("&", "&amp;")
      .replace("<", "&lt;")
      .replace(">", "&gt;")
      .replace("\"", "&quot;")
      .replace("'", "&#39;");
  }

  /** The source expression that allows a script of exactly this text. */
  private static String digest(String script) {
    try {
      byte[] digest = MessageDigest.getInstance("SHA-256").digest(script.getBytes(StandardCharsets.UTF_8));
      return "sha256-" + Base64.getEncoder().encodeToString(digest);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  private static String charts() throws IOException {
    try (InputStream in = HtmlReport.class.getResourceAsStream("echarts.js")) {
      if (in == null) {
        throw new IOException(
          "this build carries no charting library: an HTML report needs a build with npm and a network (or npm's cache)"
        );
      }
      return text(in);
    }
  }

  private static String resource(String name) throws IOException {
    try (InputStream in = HtmlReport.class.getResourceAsStream(name)) {
      return text(in);
    }
  }

  /** Text with the line ends that a browser makes of any, so that digests fit. */
  private static String text(InputStream in) throws IOException {
    return new String(in.readAllBytes(), StandardCharsets.UTF_8).replace("\r\n", "\n");
  }
}
