// An event handler that trusts nobody: ASP.NET Core with Microsoft.AspNetCore.Authentication.JwtBearer and
// plain routes for the events. Not compiled by our tests: a snippet to start from.
using System.Security.Claims;
using Microsoft.AspNetCore.Authentication.JwtBearer;
using Microsoft.AspNetCore.Authorization;

var builder = WebApplication.CreateBuilder(args);
var settings = builder.Configuration; // Issuer: https://HOST/TENANT/v2.0, or without v2.0 for version 1; Audience; Callers: object ids

builder.Services.AddAuthentication(JwtBearerDefaults.AuthenticationScheme).AddJwtBearer(options =>
{
    options.MetadataAddress = settings["Issuer"]!.TrimEnd('/') + "/.well-known/openid-configuration";
    options.MapInboundClaims = false; // claims keep the names that they have in the token
    options.TokenValidationParameters.ValidIssuer = settings["Issuer"]; // exactly, with its slash
    options.TokenValidationParameters.ValidAudience = settings["Audience"];
    options.TokenValidationParameters.ValidAlgorithms = ["RS256"];
    options.TokenValidationParameters.RequireExpirationTime = true;
});
var callers = settings.GetSection("Callers").Get<string[]>() ?? [];
builder.Services.AddAuthorization(options => options.FallbackPolicy = new AuthorizationPolicyBuilder()
    .RequireAuthenticatedUser()
    .RequireAssertion(context => context.User is var who
        && who.FindFirstValue("scp") is null && who.FindFirstValue("oid") == who.FindFirstValue("sub") // an application's token
        && (callers.Length == 0 || callers.Contains(who.FindFirstValue("oid"))))
    .Build());

var app = builder.Build();
app.UseAuthentication();
app.UseAuthorization(); // the fallback policy holds for OPTIONS too: the service sends its token with the validation

app.MapMethods("/eventhandler", ["OPTIONS"], (HttpResponse response) => { response.Headers["WebHook-Allowed-Origin"] = "*"; });
app.MapPost("/eventhandler", async (HttpRequest request) =>
{
    using var body = new StreamReader(request.Body);
    var text = await body.ReadToEndAsync();
    return request.Headers["ce-type"].ToString().StartsWith("azure.webpubsub.user.")
        ? Results.Text($"{request.Headers["ce-userId"]} said {text}", "text/plain")
        : Results.NoContent();
});
app.Run();
