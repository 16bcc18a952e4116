// The few arguments that the programs on Beast have.

#pragma once

#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

// Takes `--name value` pairs; ends the program on anything else.
inline std::map<std::string, std::string> parse_arguments(int argc, char** argv) {
    std::map<std::string, std::string> values;
    for (int at = 1; at < argc; at += 2) {
        const std::string name = argv[at];
        if (name.rfind("--", 0) != 0 || at + 1 == argc) {
            std::cerr << argv[0] << ": wants --name value, not '" << name << "'\n";
            std::exit(2);
        }
        values[name.substr(2)] = argv[at + 1];
    }
    return values;
}

struct Address {
    std::string host;
    unsigned short port;
};

// Of HOST:PORT.
inline Address parse_address(const std::string& text) {
    const auto colon = text.rfind(':');
    if (colon == std::string::npos) {
        std::cerr << "'" << text << "' is not HOST:PORT\n";
        std::exit(2);
    }
    return {text.substr(0, colon), static_cast<unsigned short>(std::stoi(text.substr(colon + 1)))};
}
