// Package words makes a letter of a digest's facts: a subject, HTML, and the same
// in plain text. Operators may put templates of their own in place of the built-in
// ones; see docs/digest.md.
package words

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	html "html/template"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	text "text/template"

	"staffeln/functions/backup"
)

//go:embed builtin
var builtin embed.FS

// The files of a theme: in the operator's directory any of them may be missing.
const (
	htmlFile    = "digest.html"
	textFile    = "digest.txt"
	subjectFile = "subject.txt"
)

// A Theme is the templates that digests are written with.
type Theme struct {
	html    *html.Template
	text    *text.Template
	subject *text.Template
}

// A Written is a digest in words.
type Written struct {
	// Subject is one line. HTML is below [MaxHTML] bytes.
	Subject, HTML, Text string
}

// MaxHTML is how much HTML a digest is made of at most, in bytes: mail clients cut
// off what is longer than about 102 KB.
const MaxHTML = 100 << 10

// Builtin is the theme that comes with the program.
func Builtin() *Theme {
	t := &Theme{}
	for _, f := range []string{htmlFile, textFile, subjectFile} {
		src, err := fs.ReadFile(builtin, "builtin/"+f)
		if err == nil {
			err = t.parse(f, string(src))
		}
		if err != nil {
			panic(err) // a test renders them all
		}
	}
	return t
}

// Load reads the operator's templates from a directory: digest.html, digest.txt
// and subject.txt. What is missing is built in; what is broken, too, and the error
// says what is wrong with it. It always returns a theme that works for ordinary
// facts.
func Load(dir string) (*Theme, error) {
	t := Builtin()
	if dir == "" {
		return t, nil
	}
	var errs []error
	found := 0
	for _, f := range []string{htmlFile, textFile, subjectFile} {
		src, err := os.ReadFile(filepath.Join(dir, f))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		found++
		trial := &Theme{html: t.html, text: t.text, subject: t.subject}
		if err == nil {
			err = trial.parse(f, string(src))
		}
		if err == nil {
			_, err = trial.render(Example(), f)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("template %s: %w: the built-in one is used", filepath.Join(dir, f), err))
			continue
		}
		*t = *trial
	}
	if found == 0 {
		errs = append(errs, fmt.Errorf("no template in %s: want %s, %s or %s", dir, htmlFile, textFile, subjectFile))
	}
	return t, errors.Join(errs...)
}

func (t *Theme) parse(file, src string) (err error) {
	switch file {
	case htmlFile:
		t.html, err = html.New(file).Funcs(html.FuncMap(functions)).Option("missingkey=error").Parse(src)
	case textFile:
		t.text, err = text.New(file).Funcs(functions).Option("missingkey=error").Parse(src)
	case subjectFile:
		t.subject, err = text.New(file).Funcs(functions).Option("missingkey=error").Parse(src)
	}
	return err
}

// Write puts a digest into words. Where the theme fails on these facts, the
// built-in one is used, and the error says so: the words are good all the same.
func (t *Theme) Write(d backup.Digest) (Written, error) {
	var w Written
	var errs []error
	for file, into := range map[string]*string{htmlFile: &w.HTML, textFile: &w.Text, subjectFile: &w.Subject} {
		out, err := t.render(d, file)
		if err != nil {
			errs = append(errs, fmt.Errorf("template %s: %w: the built-in one is used", file, err))
			if out, err = Builtin().render(d, file); err != nil {
				return Written{}, errors.Join(append(errs, err)...)
			}
		}
		*into = out
	}
	w.Subject = strings.Join(strings.Fields(w.Subject), " ")
	return w, errors.Join(errs...)
}

// render runs one template, with fewer and fewer rows until the result is small
// enough.
func (t *Theme) render(d backup.Digest, file string) (string, error) {
	for rows := maxRows; ; rows /= 2 {
		out := &limited{max: 4 * MaxHTML}
		var err error
		switch v := view(d, rows); file {
		case htmlFile:
			err = t.html.Execute(out, v)
		case textFile:
			err = t.text.Execute(out, v)
		default:
			err = t.subject.Execute(out, v)
		}
		switch {
		case err == nil && out.Len() < MaxHTML:
			return out.String(), nil
		case err != nil && !errors.Is(err, errTooLong):
			return "", err
		case rows <= 1:
			return "", fmt.Errorf("more than %d bytes, however few rows", MaxHTML)
		}
	}
}

var errTooLong = errors.New("too long")

// limited is a buffer that a template cannot fill without end.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > l.max {
		return 0, errTooLong
	}
	return l.Buffer.Write(p)
}
