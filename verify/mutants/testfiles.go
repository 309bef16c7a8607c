package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
)

// unneeded returns the test files of the package in dir that the given tests do
// not need. Without them a mutant builds in half the time, most of which is the
// compilation of tests that are not run.
//
// A test needs its file, those of the package itself (they export its inside),
// the one with TestMain, and for each of them those that declare what it names,
// or methods of it. What has the same name and is something else, such as a
// field, only makes it more.
func unneeded(dir string, tests []string) ([]string, error) {
	type file struct {
		name           string
		declares, uses map[string]bool
		needed         bool
	}
	names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	var files []*file
	for _, name := range names {
		tree, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		f := &file{name: name, declares: declared(tree), uses: make(map[string]bool)}
		ast.Inspect(tree, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				f.uses[id.Name] = true
			}
			return true
		})
		f.needed = !strings.HasSuffix(tree.Name.Name, "_test") || f.declares["TestMain"] || f.declares["init"] ||
			slices.ContainsFunc(tests, func(test string) bool { return f.declares[test] })
		files = append(files, f)
	}
	for again := true; again; {
		again = false
		for _, f := range files {
			for _, other := range files {
				if f.needed || !other.needed {
					continue
				}
				for name := range other.uses {
					if f.declares[name] {
						f.needed, again = true, true
					}
				}
			}
		}
	}
	var rest []string
	for _, f := range files {
		if !f.needed {
			rest = append(rest, f.name)
		}
	}
	return rest, nil
}

// declared returns the names that a file declares in its package, and those of
// the types of which it declares methods.
func declared(tree *ast.File) map[string]bool {
	names := make(map[string]bool)
	for _, decl := range tree.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Recv == nil {
				names[decl.Name.Name] = true
				continue
			}
			ast.Inspect(decl.Recv.List[0].Type, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					names[id.Name] = true
				}
				return true
			})
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names[spec.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						names[name.Name] = true
					}
				}
			}
		}
	}
	delete(names, "_")
	return names
}
