# Completion of tracetorch for fish. Put this line into ~/.config/fish/config.fish:
#     tracetorch completion fish | source

function __tracetorch_completion
    set -lx _TRACETORCH_COMPLETE complete
    set -lx _TRACETORCH_COMPLETE_LINE (commandline -cp | string collect)
    # the first word that is not an assignment: tracetorch, or a path to it
    set -l program (string match -r '(?<!\S)[^\s=]+(?!\S)' -- $_TRACETORCH_COMPLETE_LINE)
    set program (string replace -r '^~/' $HOME/ -- $program)
    type -q "$program" || return
    command $program 2>/dev/null | while read -l -d \x1f kind value remark
        switch $kind
            case folder
                for folder in (__fish_complete_directories $value '')
                    printf '%s\n' $remark$folder
                end
            case word key # fish itself adds no space after = and after a dot
                printf '%s\t%s\n' $value $remark
        end
    end
end

complete -c tracetorch -f -a '(__tracetorch_completion)'
