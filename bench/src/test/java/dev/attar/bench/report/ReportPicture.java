package dev.attar.bench.report;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** Takes a picture of a report: {@code ReportPicture REPORT.html OUT.png [WIDTH] [dark] [2x]}. */
final class ReportPicture {

  private ReportPicture() {}

  public static void main(String[] args) throws Exception {
    int width = args.length > 2 && args[2].matches("\\d+") ? Integer.parseInt(args[2]) : 1280;
    boolean dark = Arrays.asList(args).contains("dark");
    int scale = Arrays.asList(args).contains("2x") ? 2 : 1;
    try (Chromium browser = Chromium.start()) {
      Chromium.View view = new Chromium.View(width, 900, dark, width < 600, scale);
      try (Chromium.Page page = browser.open(Path.of(args[0]), view)) {
        page.waitFor("attarReport.drawn.length === attarReport.expected.length");
        // The window becomes as tall as the page, so that nothing is cut off.
        int height = page.evaluate("document.documentElement.scrollHeight").asInt();
        page.show(new Chromium.View(width, height, dark, width < 600, scale));
        Files.write(Path.of(args[1]), page.picture());
        page.problems().forEach(System.err::println);
      }
    }
  }
}
