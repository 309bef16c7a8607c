package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// prune returns the test files of the package in dir without the declarations
// that the given tests do not need. Most of the time that a mutant took to
// build was the compilation of tests that are not run.
//
// The tests, TestMain, init, and all that a needed declaration names are
// needed, with the methods of a type. Names in strings count, as a test may
// start its own binary with -test.run. Lines keep their numbers, and packages
// stay imported. Test files of the package itself are not changed.
func prune(dir string, tests []string) (map[string]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	type file struct {
		text  []byte
		tree  *ast.File
		start int // the position of the first byte
	}
	set := token.NewFileSet()
	files := make(map[string]file)
	units := make(map[string][]ast.Decl) // by each name that they declare
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		tree, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(tree.Name.Name, "_test") {
			continue
		}
		files[name] = file{text, tree, int(tree.FileStart)}
		for _, decl := range tree.Decls {
			for _, name := range declared(decl) {
				units[name] = append(units[name], decl)
			}
		}
	}

	needed := make(map[ast.Decl]bool)
	seen := make(map[string]bool)
	for todo := append([]string{"TestMain", "init", "_"}, tests...); len(todo) > 0; {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[name] {
			continue
		}
		seen[name] = true
		for _, decl := range units[name] {
			if !needed[decl] {
				needed[decl] = true
				todo = append(todo, used(decl)...)
			}
		}
	}

	pruned := make(map[string]string)
	for name, f := range files {
		text := f.text
		bases := make(map[string]bool)
		for _, decl := range f.tree.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.IMPORT {
				continue
			}
			if needed[decl] {
				for _, name := range used(decl) {
					bases[name] = true
				}
				continue
			}
			// Only the line ends of a declaration stay. Its comment goes, too,
			// as it may be a directive.
			from := decl.Pos()
			if doc := docOf(decl); doc != nil {
				from = doc.Pos()
			}
			part := text[int(from)-f.start : int(decl.End())-f.start]
			for i, c := range part {
				if c != '\n' {
					part[i] = ' '
				}
			}
		}
		for _, spec := range slices.Backward(f.tree.Imports) {
			if bases[importName(spec)] {
				continue
			}
			from, to := int(spec.Path.Pos())-f.start, int(spec.Path.Pos())-f.start
			if spec.Name != nil {
				from = int(spec.Name.Pos()) - f.start
			}
			text = slices.Concat(text[:from], []byte("_ "), text[to:])
		}
		pruned[name] = string(bytes.Clone(text))
	}
	return pruned, nil
}

func docOf(decl ast.Decl) *ast.CommentGroup {
	if f, ok := decl.(*ast.FuncDecl); ok {
		return f.Doc
	}
	return decl.(*ast.GenDecl).Doc
}

// declared returns the names that a declaration declares, or for a method the
// name of its type.
func declared(decl ast.Decl) []string {
	var names []string
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv == nil {
			return []string{decl.Name.Name}
		}
		receiver := decl.Recv.List[0].Type
		if star, ok := receiver.(*ast.StarExpr); ok {
			receiver = star.X
		}
		// The first name is the type, and others are its parameters.
		ast.Inspect(receiver, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && names == nil {
				names = []string{id.Name}
			}
			return names == nil
		})
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, spec.Name.Name)
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

var word = regexp.MustCompile(`\w+`)

// used returns the names in a declaration and in its strings.
func used(decl ast.Decl) []string {
	var names []string
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if n.Name != "_" && n.Name != "init" {
				names = append(names, n.Name)
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				for _, name := range word.FindAllString(n.Value, -1) {
					if strings.HasPrefix(name, "Test") {
						names = append(names, name)
					}
				}
			}
		}
		return true
	})
	return names
}

var major = regexp.MustCompile(`/v[0-9]+$`)

// importName returns the name of an imported package in a file.
func importName(spec *ast.ImportSpec) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	imported, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return ""
	}
	return path.Base(major.ReplaceAllString(imported, ""))
}
