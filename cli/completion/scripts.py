"""The shells' side of completion: each script hands the line up to the cursor over, and offers what comes back.

What comes back has a line for each offer: its kind, the words to type and a remark, separated by unit separators, since
a tab is white space to `read`, which would swallow empty fields. The kinds are those of `answer.KINDS`.
"""

from __future__ import annotations

_BASH = r"""# Completion of tracetorch for bash 4.4 or newer. Put this line into ~/.bashrc:
#     eval "$(tracetorch completion bash)"

_tracetorch_completion() {
    local kind value remark folder lead=""
    COMPREPLY=()
    # bash takes = and : for ends of words, so $2 is what it will replace: the line's last word without the lead
    while IFS=$'\x1f' read -r kind value remark; do
        case $kind in
            lead) lead=$value ;;
            word) COMPREPLY+=("${value#"$lead"}") ;;
            key)
                compopt -o nospace
                COMPREPLY+=("${value#"$lead"}")
                ;;
            folder)
                compopt -o filenames -o nospace
                while IFS= read -r folder; do
                    folder=$remark$folder/  # by ourselves: behind a lead, readline does not see that it is a folder
                    COMPREPLY+=("${folder#"$lead"}")
                done < <(compgen -d -- "$value")
                ;;
        esac
    done < <(
        _TRACETORCH_COMPLETE=complete _TRACETORCH_COMPLETE_LINE=${COMP_LINE:0:COMP_POINT} \
            _TRACETORCH_COMPLETE_WORD=$2 "${1/#\~\//$HOME/}" 2>/dev/null
    )
}

complete -F _tracetorch_completion tracetorch
"""

_ZSH = r"""#compdef tracetorch
# Completion of tracetorch for zsh. Put this line into ~/.zshrc, below the one with compinit:
#     eval "$(tracetorch completion zsh)"

_tracetorch_completion() {
    local kind value remark program=${(Q)words[1]}
    local -a offered keys
    while IFS=$'\x1f' read -r kind value remark; do
        value=${value//:/\\:}  # which ends the value for _describe
        case $kind in
            word) offered+=("$value${remark:+:$remark}") ;;
            key) keys+=("$value${remark:+:$remark}") ;;
            folder)
                compset -p ${#remark}
                _path_files -/
                return
                ;;
        esac
    done < <(
        _TRACETORCH_COMPLETE=complete _TRACETORCH_COMPLETE_LINE="${words[1,CURRENT-1]} $IPREFIX$QIPREFIX$PREFIX" \
            "${program/#\~\//$HOME/}" 2>/dev/null
    )
    (( $#keys )) && _describe -t keys 'key' keys -S ''
    (( $#offered )) && _describe -t values 'value' offered
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _tracetorch_completion "$@"  # this file lies in a folder of $fpath, as _tracetorch
else
    compdef _tracetorch_completion tracetorch
fi
"""

_FISH = r"""# Completion of tracetorch for fish. Put this line into ~/.config/fish/config.fish:
#     tracetorch completion fish | source

function __tracetorch_completion
    set -lx _TRACETORCH_COMPLETE complete
    set -lx _TRACETORCH_COMPLETE_LINE (commandline -cp | string collect)
    # the first word that assigns nothing: tracetorch, or a path to it
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
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""The script of each shell that is supported."""
