package dev.attar.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.attar.bench.Comparison;
import dev.attar.bench.report.Chromium.Page;
import dev.attar.bench.report.Chromium.View;
import dev.attar.bench.report.TrainingReport.Curve;
import dev.attar.bench.report.TrainingReport.Level;
import dev.attar.bench.report.TrainingReport.Point;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The report as a file, and as a browser shows it. */
class HtmlReportTest {

  private static final String HOSTILE =
    "</script><script>window.harm=1</script><img src=x onerror='window.harm=1'>{{data}}&amp;\uDCFF\u202E";

  private static Chromium browser;

  @TempDir
  Path folder;

  @BeforeAll
  static void start() throws IOException {
    browser = Chromium.start();
    browser.allowClipboard();
  }

  @AfterAll
  static void stop() throws IOException {
    if (browser != null) {
      browser.close();
    }
  }

  @Test
  void showsAllChartsWithoutAnyProblem() throws IOException {
    Comparison comparison = new Comparisons()
      .variants(6)
      .failed("Q1_0", "llama.cpp aborted: GGML_ASSERT(n > 0) failed", "line 1", "line 2")
      .build();
    try (Page page = open(comparison, View.DESKTOP)) {
      // Size, speed, four latency tests, divergence, tensors.
      assertEquals(8, page.evaluate("attarReport.expected.length").asInt());
      assertEquals("8", page.evaluate("document.documentElement.dataset.charts").asText());
      assertEquals(8, page.evaluate("document.querySelectorAll('tbody tr th[scope=row]').length").asInt());
      assertTrue(text(page, "#table").contains("failed: llama.cpp aborted: GGML_ASSERT(n > 0) failed"));
      assertEquals("line 1\nline 2", page.evaluate("document.querySelector('.problem pre').textContent").asText());
      assertEquals("TinyLlama 1.1B: F16 and 7 variants", text(page, "h1"));
    }
  }

  @Test
  void followsTheColourScheme() throws IOException {
    try (Page page = open(Comparisons.of(3), View.DARK)) {
      assertContrast(page);
      String dark = page.evaluate("document.getElementById('size-chart').innerHTML").asText();
      page.show(View.DESKTOP);
      page.waitFor("!matchMedia('(prefers-color-scheme: dark)').matches");
      page.waitFor("document.querySelector('#size-chart svg').outerHTML.includes('#0072b2')");
      assertFalse(dark.contains("#0072b2"), "in the dark a model has another colour");
      assertContrast(page);
      assertSound(page);
    }
  }

  @Test
  void fitsAPhone() throws IOException {
    try (Page page = open(new Comparisons().variants(5).variant("a".repeat(120)).build(), View.PHONE)) {
      assertEquals(
        390,
        page.evaluate("document.documentElement.scrollWidth").asInt(),
        "the page itself does not scroll sideways"
      );
      page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)");
      assertEquals(390, page.evaluate("document.documentElement.scrollWidth").asInt(), "nor with all details open");
      page.evaluate("document.querySelector('#summary .scroll').scrollLeft = 200");
      assertEquals(
        16,
        page.evaluate("Math.round(document.querySelector('tbody .first').getBoundingClientRect().left)").asInt(),
        "the name stays in sight"
      );
    }
  }

  @Test
  void staysRightWithFewAndMany() throws IOException {
    try (Page page = open(Comparisons.of(0), View.DESKTOP)) {
      assertEquals("summary latency models run", sections(page));
    }
    try (Page page = open(Comparisons.of(1), View.DESKTOP)) {
      assertEquals("summary latency divergence tensors models run", sections(page));
    }
    try (Page page = open(Comparisons.of(20), View.DESKTOP)) {
      assertEquals("summary tradeoffs latency divergence tensors models run", sections(page));
      assertEquals(20, page.evaluate("document.querySelectorAll('[role=tab]').length").asInt());
    }
  }

  @Test
  void leavesOutWhatWasNotMeasured() throws IOException {
    Comparison noText = new Comparisons()
      .settings(Comparisons.settings(false, Comparisons.TESTS, false))
      .variants(3)
      .build();
    try (Page page = open(noText, View.DESKTOP)) {
      assertEquals("summary latency models run", sections(page));
    }
    Comparison textAlone = new Comparisons().settings(Comparisons.settings(true, List.of(), false)).variants(3).build();
    try (Page page = open(textAlone, View.DESKTOP)) {
      assertEquals("summary tradeoffs divergence models run", sections(page));
      assertEquals(0, page.evaluate("document.querySelectorAll('#speed-figure').length").asInt());
    }
    try (Page page = open(new Comparisons().failed("x", "m").build(), View.DESKTOP)) {
      assertEquals("summary latency models run", sections(page));
    }
  }

  @Test
  void sortsByColumn() throws IOException {
    try (Page page = open(new Comparisons().variants(4).failed("x", "m").build(), View.DESKTOP)) {
      assertEquals("F16 Q8_0 Q6_K Q5_K_M Q4_K_M x", names(page));
      String size = "document.querySelectorAll('thead button')[1].click()";
      page.evaluate(size);
      assertEquals(
        "F16 Q4_K_M Q5_K_M Q6_K Q8_0 x",
        names(page),
        "the smallest first, base and failure in their places"
      );
      assertEquals("ascending", page.evaluate("document.querySelectorAll('thead th')[1].ariaSort").asText());
      page.evaluate(size);
      assertEquals("F16 Q8_0 Q6_K Q5_K_M Q4_K_M x", names(page));
      assertEquals("descending", page.evaluate("document.querySelectorAll('thead th')[1].ariaSort").asText());
      page.evaluate("document.querySelectorAll('thead button')[9].click()");
      assertEquals("F16 Q4_K_M Q5_K_M Q6_K Q8_0 x", names(page), "the fastest first");
    }
  }

  @Test
  void choosesAVariantByKeyboard() throws IOException {
    try (Page page = open(Comparisons.of(3), View.DESKTOP)) {
      String selected = "document.querySelector('[role=tab][aria-selected=true]').textContent";
      assertEquals("Q5_K_M", page.evaluate(selected).asText(), "the smallest");
      page.evaluate(
        "document.querySelector('[aria-selected=true]').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))"
      );
      assertEquals("Q8_0", page.evaluate(selected).asText());
      assertTrue(page.evaluate("document.getElementById('tensors-chart').ariaLabel").asText().contains("Q8_0"));
      assertSound(page);
    }
  }

  @Test
  void copiesTheTable() throws IOException {
    Comparison comparison = Comparisons.of(3);
    try (Page page = open(comparison, View.DESKTOP)) {
      page.evaluate("document.getElementById('copy-table').click()");
      page.waitFor("document.getElementById('copy-table').textContent === 'Copied'");
      assertEquals(MarkdownTable.of(comparison), page.evaluate("navigator.clipboard.readText()").asText());
      assertSound(page);
    }
  }

  @Test
  void copiesWithoutTheClipboardInterface() throws IOException {
    Comparison comparison = Comparisons.of(3);
    try (Page page = open(comparison, View.DESKTOP)) {
      page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', { value: undefined });" +
          "addEventListener('copy', () => (window.copied = document.activeElement.value));" +
          "document.getElementById('copy-table').click()"
      );
      page.waitFor("document.getElementById('copy-table').textContent === 'Copied'");
      assertEquals(MarkdownTable.of(comparison), page.evaluate("window.copied").asText());
    }
  }

  @Test
  void printsInTheColoursOfPaper() throws IOException {
    try (Page page = open(Comparisons.of(3), View.DARK)) {
      byte[] pdf = page.print();
      assertTrue(pdf.length > 20_000, pdf.length + " bytes");
      assertFalse(
        page.evaluate("document.documentElement.classList.contains('print')").asBoolean(),
        "afterwards it is dark again"
      );
      assertSound(page);
    }
  }

  @Test
  void takesNamesForText() throws IOException {
    Comparison comparison = new Comparisons()
      .base(HOSTILE)
      .variants(2)
      .variant(HOSTILE + 1)
      .failed(HOSTILE + 2, HOSTILE, HOSTILE)
      .build();
    try (Page page = open(comparison, View.DESKTOP)) {
      assertTrue(page.evaluate("window.harm === undefined").asBoolean());
      assertEquals(0, page.evaluate("document.images.length").asInt());
      assertEquals(3, page.evaluate("document.scripts.length").asInt());
      // What is no valid text is shown as such by the browser.
      assertEquals(
        HOSTILE.replace('\uDCFF', '\uFFFD') + 1,
        page.evaluate("document.querySelectorAll('tbody th .name')[3].textContent.toWellFormed()").asText()
      );
      // Tooltips are made of elements too.
      JsonNode bar = page.evaluate(
        "(() => { const chart = document.getElementById('latency-0'); chart.scrollIntoView({ block: 'center' }); " +
          "const box = chart.getBoundingClientRect(); return { x: box.left + box.width * 0.45, y: box.top + 20 }; })()"
      );
      page.call(
        "Input.dispatchMouseEvent",
        Map.of("type", "mouseMoved", "x", bar.get("x").asDouble(), "y", bar.get("y").asDouble())
      );
      page.waitFor("document.querySelector('#latency-0 .tip b')?.textContent.startsWith('</script>')");
      assertEquals(0, page.evaluate("document.images.length").asInt());
      assertTrue(page.evaluate("window.harm === undefined").asBoolean());
    }
  }

  @Test
  void refusesToLoadAnything() throws IOException {
    Path file = folder.resolve("r.html");
    HtmlReport.write(Comparisons.of(1), file, false);
    Files.writeString(
      file,
      Files.readString(file).replace("</main>", "<img src='http://127.0.0.1:9/x'><script>window.harm=1</script></main>")
    );
    try (Page page = browser.open(file, View.DESKTOP)) {
      page.waitFor("attarReport.drawn.length === attarReport.expected.length");
      assertTrue(page.evaluate("window.harm === undefined").asBoolean());
      assertTrue(page
        .problems()
        .stream()
        .anyMatch(p -> p.contains("Content Security Policy")), () -> page.problems().toString());
    }
  }

  @Test
  void isASmallFileWithoutAddresses() throws IOException {
    String html = html(Comparisons.of(3));
    assertTrue(html.length() < 720_000, html.length() + " characters");
    String script = html.substring(html.indexOf("*/"));
    assertFalse(
      Pattern.compile("(src|href)\\s*=\\s*[\"'](?!data:,)").matcher(html.substring(0, html.indexOf("<script"))).find()
    );
    assertFalse(script.contains("<!--"), "would change how the browser reads the script");
    assertTrue(html.contains("Apache License") && html.contains("Baidu") && html.contains("Mike Bostock"), "licences");
  }

  @Test
  void isSafeToReadWithoutScripts() throws IOException {
    String html = html(new Comparisons().base(HOSTILE).variant(HOSTILE + 1).build());
    assertTrue(
      html.contains("<title>TinyLlama 1.1B: &lt;/script&gt;&lt;script&gt;window.harm=1"),
      "the title is escaped"
    );
    assertEquals(
      3,
      Pattern.compile("<script").matcher(html.replaceAll("(?s)<script>/\\*!.*?</script>", "<script>")).results().count()
    );
    assertFalse(html.contains("<img"));
  }

  @Test
  void doesNotReplaceAFileUnasked() throws IOException {
    Path file = folder.resolve("r.html");
    Files.writeString(file, "mine");
    assertThrows(FileAlreadyExistsException.class, () -> HtmlReport.check(file, false));
    assertThrows(FileAlreadyExistsException.class, () -> HtmlReport.write(Comparisons.of(1), file, false));
    assertEquals("mine", Files.readString(file));
    HtmlReport.write(Comparisons.of(1), file, true);
    HtmlReport.write(Comparisons.of(1), List.of("what else there is to say"), file, true);
    assertTrue(Files.readString(file).contains("\"findings\":[\"what else there is to say\","));
    assertTrue(Files.readString(file).startsWith("<!doctype html>"));
    assertThrows(NoSuchFileException.class, () ->
      HtmlReport.write(Comparisons.of(1), folder.resolve("no/r.html"), false)
    );
    try (Stream<Path> files = Files.list(folder)) {
      assertEquals(List.of(file), files.toList(), "no temporary is left");
    }
  }

  private String html(Comparison comparison) throws IOException {
    Path file = folder.resolve("r.html");
    HtmlReport.write(comparison, file, true);
    return Files.readString(file);
  }

  /** Opens the report of a comparison, waits for its charts and checks what holds for every report. */
  @Test
  void showsATraining() throws IOException {
    List<Point> steps = new ArrayList<>();
    for (int step = 1; step <= 5000; step++) {
      steps.add(new Point(step, 2 + 100.0 / step));
    }
    steps.add(new Point(5001, Double.NaN));
    List<Point> validations = List.of(new Point(0, 90), new Point(2500, 2.5), new Point(5000, 2.25));
    TrainingReport training = new TrainingReport(
      HOSTILE,
      List.of(HOSTILE, "5000 steps"),
      List.of(HOSTILE),
      List.of(List.of("", "Perplexity"), List.of("Teacher | a", "2.0"), List.of(HOSTILE, "2.25")),
      List.of(
        new Curve("Perplexity", "of the text", "perplexity", steps, validations, Optional.of(new Level(HOSTILE, 2))),
        new Curve("Loss", "", "loss", List.of(new Point(1, 0.5)), List.of(), Optional.empty()),
        new Curve("Nothing", "", "nothing", List.of(new Point(1, Double.NaN)), List.of(), Optional.empty())
      ),
      List.of(List.of("Batch", "16")),
      Comparisons.of(1).environment()
    );
    Path file = folder.resolve("training.html");
    HtmlReport.write(training, file, false);
    assertThrows(FileAlreadyExistsException.class, () -> HtmlReport.write(training, file, false));
    try (Page page = open(file, View.PHONE)) {
      assertEquals(2, page.evaluate("attarReport.expected.length").asInt());
      assertTrue(page.evaluate("window.harm === undefined && document.images.length === 0").asBoolean());
      String label = page.evaluate("document.getElementById('curve-0').ariaLabel").asText();
      assertEquals("Perplexity: perplexity from 90.0 to 2.25 over 5000 steps.", label);
      assertEquals(390, page.evaluate("document.documentElement.scrollWidth").asInt(), "nothing sticks out");
      page.evaluate("document.getElementById('copy-table').click()");
      page.waitFor("document.getElementById('copy-table').textContent === 'Copied'");
      String copied = page.evaluate("navigator.clipboard.readText()").asText();
      assertTrue(copied.startsWith("|  | Perplexity |\n| --- | --- |\n| Teacher \\| a | 2.0 |\n"), copied);
      assertSound(page);
    }
  }

  private Page open(Comparison comparison, View view) throws IOException {
    Path file = folder.resolve("report.html");
    HtmlReport.write(comparison, file, true);
    return open(file, view);
  }

  private Page open(Path file, View view) throws IOException {
    Page page = browser.open(file, view);
    page.waitFor("attarReport.drawn.length === attarReport.expected.length");
    assertSound(page);
    assertEquals(List.of(file.toUri().toString()), page.requests());
    JsonNode blank = page.evaluate(
      "[...document.querySelectorAll('.chart')].filter(c => c.querySelectorAll('svg path').length < 3 || " +
        "c.getBoundingClientRect().height < 40 || c.getAttribute('role') !== 'img' || !c.ariaLabel).map(c => c.id)"
    );
    assertEquals(0, blank.size(), () -> "charts that are blank or have no name: " + blank);
    assertEquals(
      page.evaluate("document.querySelectorAll('.chart').length").asInt(),
      page.evaluate("attarReport.drawn.length").asInt()
    );
    return page;
  }

  private static void assertSound(Page page) {
    assertEquals(List.of(), page.problems());
  }

  /** Text has a contrast of at least 4.5, marks in charts of at least 3 (WCAG 2.2, AA). */
  private static void assertContrast(Page page) throws IOException {
    JsonNode weak = page.evaluate(
      """
      (() => {
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
          const hex = style.getPropertyValue(name).trim();
          const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const contrast = (a, b) => {
          const [x, y] = [light(a), light(b)].sort((m, n) => n - m);
          return (x + 0.05) / (y + 0.05);
        };
        const texts = [['--text', '--page'], ['--muted', '--page'], ['--text', '--panel'], ['--muted', '--panel'],
          ['--accent', '--page'], ['--bad', '--page'], ['--best-text', '--best']];
        const marks = ['--base', ...Array.from({ length: 10 }, (_, i) => `--series-${i}`)];
        return [...texts.filter(([a, b]) => contrast(a, b) < 4.5), ...marks.filter((mark) => contrast(mark, '--page') < 3)];
      })()
      """
    );
    assertEquals(0, weak.size(), () -> "too little contrast: " + weak);
  }

  private static String text(Page page, String selector) throws IOException {
    return page.evaluate("document.querySelector('" + selector + "').textContent").asText();
  }

  private static String sections(Page page) throws IOException {
    return page.evaluate("[...document.querySelectorAll('section')].map(s => s.id).join(' ')").asText();
  }

  private static String names(Page page) throws IOException {
    return page.evaluate("[...document.querySelectorAll('tbody th .name')].map(n => n.textContent).join(' ')").asText();
  }
}
