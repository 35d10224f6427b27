// Command protogen compiles a .proto file to Go without protoc: bufbuild/protocompile reads it, protoc-gen-go's own
// generator writes it.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: protogen FILE.proto")
	}
	dir, name := filepath.Split(os.Args[1])
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), name)
	if err != nil {
		log.Fatal(err)
	}
	var all []*descriptorpb.FileDescriptorProto
	for i := range files[0].Imports().Len() {
		all = append(all, protoutil.ProtoFromFileDescriptor(files[0].Imports().Get(i).FileDescriptor))
	}
	all = append(all, protoutil.ProtoFromFileDescriptor(files[0]))
	plugin, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{name}, ProtoFile: all, Parameter: proto.String("paths=source_relative"),
	})
	if err != nil {
		log.Fatal(err)
	}
	plugin.SupportedFeatures = internal_gengo.SupportedFeatures
	for _, f := range plugin.Files {
		if f.Generate {
			internal_gengo.GenerateFile(plugin, f)
		}
	}
	response := plugin.Response()
	if response.Error != nil {
		log.Fatal(*response.Error)
	}
	for _, f := range response.File {
		if err := os.WriteFile(filepath.Join(dir, f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
