package words

import (
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"staffeln/testutil/services"
)

// measure is run in each page once it is laid out: how wide it really is, how small
// its smallest letters are, and how far words stand out from what is behind them.
const measure = `<script>
addEventListener("load", () => {
  const light = c => { const [r, g, b] = c.match(/[\d.]+/g).slice(0, 3).map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 }); return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c } return "rgb(255, 255, 255)" }
  const found = { width: document.documentElement.scrollWidth, inner: innerWidth, page: getComputedStyle(document.body).backgroundColor, contrast: 99, worst: "", smallest: 99, fetched: performance.getEntriesByType("resource").length }
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), e = walk.currentNode.parentElement
    if (!text || e.tagName === "SCRIPT") continue
    const style = getComputedStyle(e), size = parseFloat(style.fontSize)
    const a = light(style.color), b = light(behind(e)), c = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    if (c < found.contrast) { found.contrast = c; found.worst = text.slice(0, 60) }
    if (size < found.smallest) found.smallest = size
  }
  parent.postMessage(found, "*")
})
</script>`

// gallery holds many pages, each in a window of its own, and gathers what they
// measure.
const gallery = `<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<script>
const all = {}
addEventListener("message", e => {
  for (const f of document.querySelectorAll("iframe")) if (f.contentWindow === e.source) all[f.name] = e.data
  document.title = "measured " + JSON.stringify(all)
})
</script>
`

type measured struct {
	Width, Inner, Smallest, Contrast float64
	Page, Worst                      string
	Fetched                          int
}

// What people look at, they look at in a browser: on a phone and on a desk, by
// day and by night.
func TestInABrowser(t *testing.T) {
	page := gallery
	widths := map[string]int{}
	for name, d := range situations() {
		w, err := Builtin().Write(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, width := range []int{375, 1200} {
			window := fmt.Sprintf("%s at %d pixels", name, width)
			widths[window] = width
			page += fmt.Sprintf("<iframe name=%q style='width:%dpx;height:900px;border:0' srcdoc=\"%s\"></iframe>\n", window, width, html.EscapeString(w.HTML+measure))
		}
	}
	file := filepath.Join(t.TempDir(), "gallery.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dark := range []bool{false, true} {
		dom := services.Browse(t, file, dark)
		title := regexp.MustCompile(`<title>measured (.*?)</title>`).FindStringSubmatch(dom)
		var all map[string]measured
		if title == nil || json.Unmarshal([]byte(html.UnescapeString(title[1])), &all) != nil || len(all) != len(widths) {
			t.Fatalf("%d of %d pages were measured", len(all), len(widths))
		}
		for window, m := range all {
			what := fmt.Sprintf("%s, dark %t", window, dark)
			// A window with a bar to scroll down with has a little less room inside.
			if m.Inner != float64(widths[window]) || m.Width > m.Inner {
				t.Errorf("%s: is %g pixels wide in a window of %g", what, m.Width, m.Inner)
			}
			if m.Smallest < 13 {
				t.Errorf("%s: letters of %g pixels", what, m.Smallest)
			}
			if m.Contrast < 4.5 { // WCAG AA
				t.Errorf("%s: %q has a contrast of %.1f", what, m.Worst, m.Contrast)
			}
			if m.Fetched != 0 {
				t.Errorf("%s: fetches %d things", what, m.Fetched)
			}
			if isDark := m.Page == "rgb(13, 17, 23)"; isDark != dark {
				t.Errorf("%s: the page is %s", what, m.Page)
			}
		}
	}
}

// The pictures in docs are of the example, as the browser shows it.
func TestPictures(t *testing.T) {
	w, err := Builtin().Write(Example())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "digest.html")
	if err := os.WriteFile(file, []byte(w.HTML), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		width, height int
		dark          bool
	}{{"digest-phone-light", 375, 2170, false}, {"digest-phone-dark", 375, 2170, true}, {"digest-desk-light", 1200, 1740, false}, {"digest-desk-dark", 1200, 1740, true}} {
		path := filepath.Join("..", "..", "..", "docs", "pictures", c.name+".png")
		if *update {
			services.Picture(t, file, path, c.width, c.height, c.dark)
		}
		if s, err := os.Stat(path); err != nil || s.Size() < 20_000 {
			t.Errorf("%s is missing: run go test -update (%v)", path, err)
		}
	}
}
